"""What the engine shows of other text models equals their own eager attention, and what it cannot show is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from integration.reference import processor_inputs
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import ModelSettings, SettingsError
from llava_server.engine import Engine
from llava_wire import Record
from support.families import REFUSED, WORKING, tiny_llava

EVERYTHING = {"layers": "all", "heads": "all", "reduction": "none", "precision": "float32", "max_new_tokens": 12}
SHORT, LONG = "A?", "Describe the image, and say which colours there are."


@torch.no_grad()
def eager_rows(engine: Engine, picture: bytes, record: Record) -> np.ndarray:
    """The image columns that the model's own eager attention gives, [query, layer, head, patch]."""
    model, prompt = engine.loaded.model, record.facts.prompt
    pixels = processor_inputs(engine.loaded.processor, [picture], [prompt.text])["pixel_values"]
    ids = torch.tensor([(*prompt.ids, *(token.id for token in record.tokens[:-1]))])
    model.set_attn_implementation({"text_config": "eager"})
    try:
        attentions = model(input_ids=ids, pixel_values=pixels, output_attentions=True, use_cache=False).attentions
    finally:
        model.set_attn_implementation({"text_config": "llava_gaze_capture"})
    places = [query.position for query in record.queries]
    start, count = record.grids[0].positions[0]
    image = slice(start, start + count)
    return torch.stack([layer[0][:, places, image] for layer in attentions]).permute(2, 0, 1, 3).numpy()


def asked(engine: Engine, picture: bytes, prompts: list[str], options: dict[str, Any]) -> list[Record]:
    records = engine.run([GenerateRequest.build(picture, prompt, {**EVERYTHING, **options}) for prompt in prompts])
    assert all(isinstance(record, Record) for record in records), records
    return records


@pytest.mark.parametrize("family", WORKING)
def test_maps_of_a_family_equal_its_own_eager_attention(family: str, pictures: list[bytes]) -> None:
    engine = Engine.from_model(*tiny_llava(WORKING[family]), ModelSettings(name="tiny"))
    check = engine.loaded.checks["self_test"]
    assert check["result"] == "passed"
    assert check["row_error"] <= check["row_limit"] == 1e-5
    assert check["prompt_tokens"] >= 512
    for options in ({}, {"rows": "both"}, {"steps": [11]}):
        for record in asked(engine, pictures[0], [SHORT, LONG], options):  # one is padded beside the other
            wanted = eager_rows(engine, pictures[0], record)
            ours = record.maps_float().reshape(wanted.shape)
            np.testing.assert_allclose(ours, wanted, atol=2e-6, rtol=0)
            np.testing.assert_allclose(record.views["selection"].shares.sum(-1), 1, atol=1e-5)
            if not options:
                views = {name: value for name, value in EVERYTHING.items() if name != "max_new_tokens"}
                [again] = engine.run([GenerateRequest.replay(record, views, pictures[0])])
                assert isinstance(again, Record), again
                np.testing.assert_allclose(again.maps_float().reshape(wanted.shape), wanted, atol=2e-6, rtol=0)
            noted = "window" in [note.code for note in record.facts.notes]
            assert noted == ("window" in family), family
    [*parts] = engine.stream(GenerateRequest.build(pictures[0], LONG, EVERYTHING))
    wanted = eager_rows(engine, pictures[0], parts[-1])
    streamed = np.stack([part.views["selection"].maps_float() for part in parts[:-1]])
    np.testing.assert_allclose(streamed.reshape(wanted.shape), wanted, atol=2e-6, rtol=0)


@pytest.mark.parametrize("family", REFUSED)
def test_attention_of_another_kind_is_refused_at_load(family: str) -> None:
    model, processor = tiny_llava(REFUSED[family])
    with pytest.raises(SettingsError, match=r"got .* expected .*"):
        Engine.from_model(model, processor, ModelSettings(name="tiny"))


def test_a_sink_is_found_in_the_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the check of what a layer hands over, the comparison still finds it."""
    monkeypatch.setattr("llava_server.check.selftest._KNOWN", frozenset({"s_aux", "dropout", "scaling", "position_ids",
        "sliding_window", "use_cache"}))  # fmt: skip
    with pytest.raises(SettingsError, match=r"self-test: got rows that differ by 0\.\d+ from the model's own eager"):
        Engine.from_model(*tiny_llava(REFUSED["gpt-oss, sinks"]), ModelSettings(name="tiny"))


def test_a_model_may_go_without_and_says_so(pictures: list[bytes]) -> None:
    settings = ModelSettings.from_dict({"name": "tiny", "self_test": False})
    engine = Engine.from_model(*tiny_llava(WORKING["llama"]), settings)
    [record] = asked(engine, pictures[0], [SHORT], {})
    assert record.facts.checks["self_test"] == {"result": "not tested"}
    assert [note.code for note in record.facts.notes] == ["not-tested"]


def test_keys_that_are_forgotten_end_the_run(pictures: list[bytes]) -> None:
    """A cache that drops keys, whatever its layers are called, is noticed in the run itself."""
    from transformers import DynamicCache

    import llava_server.run.generate as generate

    engine = Engine.from_model(*tiny_llava(WORKING["mistral, window"]), ModelSettings(name="tiny"))
    text = engine.loaded.model.config.get_text_config(decoder=True)
    original = generate.DynamicCache
    generate.DynamicCache = lambda: DynamicCache(config=text)  # type: ignore[assignment, misc]
    try:
        with pytest.raises(
            RuntimeError, match=r"layer 0: got attention over (\d+ keys, expected all|other keys than its cache)"
        ):
            engine.run([GenerateRequest.build(pictures[0], LONG, EVERYTHING)])
    finally:
        generate.DynamicCache = original  # type: ignore[misc]
