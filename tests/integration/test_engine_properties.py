"""The engine with any options that parse and any text: a sound record, or one refusal that names the field."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record, RequestError, decode, encode
from stress.fuzzing import pictures

LAYERS = st.just("all") | st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True)
HEADS = st.just("all") | st.lists(st.integers(0, 7), min_size=1, max_size=4, unique=True)
PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7)), min_size=1, max_size=4, unique=True).map(
    lambda pairs: [list(pair) for pair in pairs]
)
SELECTION = st.fixed_dictionaries(
    {}, optional={"layers": LAYERS, "heads": HEADS, "reduction": st.sampled_from(["none", "layers_heads", "all", 1, 3])}
) | st.fixed_dictionaries(
    {"heads": PAIRS | st.sampled_from(["next-object", "named-object", "nobody"])},
    optional={"reduction": st.sampled_from(["none", "layers_heads", "all"])},
)
VIEWS = st.lists(SELECTION, min_size=1, max_size=3).map(
    lambda chosen: {"views": [{"name": f"view {i}", **one} for i, one in enumerate(chosen)]}
)
DECODING = (
    st.just({})
    | st.fixed_dictionaries(
        {"temperature": st.sampled_from([0.001, 0.5, 1, 100])},
        optional={
            "top_p": st.sampled_from([1e-9, 0.5, 1]),
            "top_k": st.sampled_from([1, 5, 10**9]),
            "seed": st.integers(0, 2**63 - 1),
            "num_return_sequences": st.integers(1, 3),
        },
    )
    | st.fixed_dictionaries(
        {"num_beams": st.integers(2, 3)},
        optional={
            "length_penalty": st.sampled_from([-10, 0, 0.5, 10]),
            "num_return_sequences": st.integers(1, 2),
        },
    )
)
REST = st.fixed_dictionaries(
    {"max_new_tokens": st.integers(1, 4)},
    optional={
        "rows": st.sampled_from(["answer", "prompt", "both"]),
        "steps": st.just("all") | st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True),
        "precision": st.sampled_from(["uint8", "float16", "float32", "blocks"]),
        "template": st.sampled_from(["chat", "chat", "chat", "raw"]),
    },
)
OPTIONS = st.tuples(REST, SELECTION | VIEWS, DECODING).map(lambda parts: {**parts[0], **parts[1], **parts[2]})
TEXT = (
    st.sampled_from(["Describe the image.", "How many?", "What <image> is it?"])
    | st.text(max_size=30)
    | st.sampled_from(
        [
            "<image>",
            "<image> What?",
            "</s><image>",
            "What color is the square?",
            "a" * 1500,
            "\0",
            "e\u0301\u202e",
            "<s>",
        ]
    )
)


def check(record: Record) -> None:
    """Shares sum to one, a map's sum is its image share, and the record survives the way to bytes and back."""
    again = decode(encode(record))
    for one in (again, *again.alternatives):
        assert one.queries or all(view.axes[0] != "query" for view in one.views.values())
        for view in one.views.values():
            maps = view.maps_float()
            assert np.isfinite(maps).all()
            np.testing.assert_allclose(view.shares.sum(-1), 1, atol=1e-4)
            coarse = view.facts.encoding == "float16"
            bound = 1e-3 + (maps.shape[-1] * maps.shape[-2] * view.facts.error_bound if coarse else 0)
            np.testing.assert_allclose(maps.sum((-2, -1)), view.shares[..., 1], atol=bound)


@pytest.mark.parametrize("count", [40, pytest.param(150, marks=pytest.mark.long)])
def test_any_options_and_text(engine: Engine, count: int) -> None:
    @settings(max_examples=count, deadline=None)
    @given(options=OPTIONS, text=TEXT, seed=st.integers(0, 500))
    @example(options={"max_new_tokens": 2, "template": "raw", "rows": "prompt"}, text="<image>", seed=0)
    @example(options={"max_new_tokens": 1, "rows": "prompt", "reduction": "none"}, text="\0", seed=1)
    @example(options={"max_new_tokens": 4, "steps": [3], "rows": "both"}, text="What color is the square?", seed=2)
    def sound_or_refused(options: dict[str, Any], text: str, seed: int) -> None:
        answer_and_replay(engine, options, text, seed)

    sound_or_refused()


def answer_and_replay(engine: Engine, options: dict[str, Any], text: str, seed: int) -> None:
    """A refusal names the field; an answer is sound, and so is its replay."""
    try:
        request = GenerateRequest.build(pictures.sound(random.Random(seed), phones=False), text, options)
    except RequestError:
        return
    [result] = engine.run([request])
    if isinstance(result, RequestError):
        assert result.status in (413, 422, 507), result
        assert "expected " in result.message
        # Some of the pictures are thinner than 32:1.
        assert result.field in ("prompt", "image") or result.field.startswith("options"), result
        return
    check(result)
    replayed = {name: value for name, value in options.items() if name in ("layers", "heads", "reduction", "views")}
    [again] = engine.run([GenerateRequest.replay(result, replayed, request.image)])
    assert isinstance(again, Record), again
    check(again)
    assert again.answer == result.answer


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60) | st.lists(st.sampled_from(
    ["<image>", "</s>", "<s>", "<pad>", "<unk>", "<", "image", ">", " ", "\uff1cimage\uff1e", "\u202e", "\0", "USER:"])
).map("".join))  # fmt: skip
def test_no_text_becomes_a_special_token_and_positions_are_the_texts_own(engine: Engine, text: str) -> None:
    encoder, tokenizer = engine._preparer._encoder, engine.loaded.processor.tokenizer
    picture = engine.loaded.layout([(64, 48)])
    plain, encoded = (encoder.encode(question, "chat", picture) for question in ("word", text))
    special = set(tokenizer.all_special_ids)
    assert [i for i in encoded.ids if i in special] == [i for i in plain.ids if i in special]
    run = encoded.patches
    assert not set(run) & set(encoded.question)
    written = tokenizer.decode([encoded.ids[i] for i in encoded.question])
    assert text.strip() in written or "\ufffd" in written or not text.strip()


@pytest.mark.parametrize("template", ["chat", "raw"])
def test_a_prompt_beyond_the_context_is_refused_with_both_numbers_before_the_picture_is_opened(
    engine: Engine, template: str
) -> None:
    text = "<image> " * (template == "raw") + "red circle " * 300
    [error] = engine.run([GenerateRequest.build(b"no image at all", text, {"template": template})])
    assert isinstance(error, RequestError)
    assert (error.status, error.field) == (422, "prompt")
    assert "prompt tokens (64 of the image) and max_new_tokens 64, expected 512 together" in error.message
