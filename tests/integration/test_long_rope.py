"""Models whose rotary angles change with the length of the text: replay and batches keep the regime of decoding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import transformers as tf

from integration.test_families import EVERYTHING, asked, eager_rows
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import ModelSettings, SettingsError
from llava_server.engine import Engine
from llava_server.run.compiling import check_sight
from llava_wire import Record
from support.families import HEADS, WIDTH, WORKING, text_model, tiny_llava

ORIGINAL, NEW = 96, 40
HALF = WIDTH // HEADS // 2
LONG_ROPE = text_model(
    tf.Phi3Config,
    original_max_position_embeddings=ORIGINAL,
    rope_parameters={
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * HALF, "long_factor": [4.0] * HALF,
        "original_max_position_embeddings": ORIGINAL,
    },
)  # fmt: skip
VIEWS = {name: value for name, value in EVERYTHING.items() if name != "max_new_tokens"}


def loaded(kind: object) -> Engine:
    return Engine.from_model(*tiny_llava(kind), ModelSettings(name="tiny"))  # type: ignore[arg-type]


def test_it_is_found_by_trying() -> None:
    assert loaded(LONG_ROPE).loaded.length_dependent
    for name in ("llama", "phi3, window", "gpt-neox"):
        assert not loaded(WORKING[name]).loaded.length_dependent


def test_an_answer_that_crosses_the_length_replays_as_it_was_decoded(pictures: list[bytes]) -> None:
    engine = loaded(LONG_ROPE)
    options = {"max_new_tokens": NEW}
    alone = [asked(engine, pictures[0], [prompt], options)[0] for prompt in ("A?", "Which colours are there in it?")]
    lengths = [len(record.facts.prompt.ids) for record in alone]
    assert any(length <= ORIGINAL < length + NEW - 4 for length in lengths), lengths
    together = asked(engine, pictures[0], ["A?", "Which colours are there in it?"], options)
    for one, batched in zip(alone, together, strict=True):
        assert [token.id for token in batched.tokens] == [token.id for token in one.tokens]
        np.testing.assert_allclose(batched.maps_float(), one.maps_float(), atol=1e-6)
        [again] = engine.run([GenerateRequest.replay(one, VIEWS, pictures[0])])
        assert isinstance(again, Record), again
        np.testing.assert_allclose(again.maps_float(), one.maps_float(), atol=1e-6)
        assert again.facts.finish_reason == one.facts.finish_reason
        np.testing.assert_allclose([t.logprob for t in again.tokens], [t.logprob for t in one.tokens], atol=1e-4)
    crossing = alone[0] if lengths[0] <= ORIGINAL < lengths[0] + NEW - 4 else alone[1]
    at_once = eager_rows(engine, pictures[0], crossing)
    apart = np.abs(at_once - crossing.maps_float().reshape(at_once.shape)).max()
    assert apart > 1e-3, "one forward over the whole answer must be another thing, or this test shows nothing"


@pytest.mark.parametrize("name", ["long rope", "window"])
def test_compiled_steps_are_refused_where_layers_do_not_read_everything(name: str) -> None:
    engine = loaded(LONG_ROPE if name == "long rope" else WORKING["mistral, window"])
    with pytest.raises(SettingsError, match=r"handler\.compile: got true for a model with .* set compile: false"):
        check_sight(engine.loaded, 200)
    check_sight(replace(loaded(WORKING["llama"]).loaded), 200)
    if name == "window":
        check_sight(engine.loaded, 30)
