"""Half precision against a float64 reference: on every path the maps are no less exact than eager's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlavaForConditionalGeneration

from integration.conftest import STORE, on_static_buffers
from integration.reference import processor_inputs
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record, RequestError

PROMPTS = ["Describe the image.", "What colour is the square?", "Is there a red circle in the image?"]
EVERYTHING = {"layers": "all", "heads": "all", "reduction": "none", "precision": "float32"}


def eager_model(dtype: torch.dtype) -> LlavaForConditionalGeneration:
    return LlavaForConditionalGeneration.from_pretrained(
        STORE / "llava-shapes", dtype=dtype, attn_implementation="eager"
    ).eval()


@pytest.fixture(scope="module")
def exact() -> LlavaForConditionalGeneration:
    return eager_model(torch.float64)


@torch.no_grad()
def answer_rows(model: LlavaForConditionalGeneration, pixels: torch.Tensor, record: Record) -> np.ndarray:
    """[step, layer, head, patch] float64: eager attention over the record's own tokens."""
    prompt = record.facts.prompt
    ids = torch.tensor([[*prompt.ids, *(token.id for token in record.tokens[:-1])]])
    attentions = model(input_ids=ids, pixel_values=pixels.to(model.dtype), output_attentions=True).attentions
    start, count = record.grids[0].positions[0]
    image = slice(start, start + count)
    rows = torch.stack([layer[0, :, len(prompt.ids) - 1 :, image] for layer in attentions])  # [layer, head, step, N]
    return rows.permute(2, 0, 1, 3).double().numpy()


@pytest.mark.parametrize("path", ["growing", pytest.param("compiled", marks=pytest.mark.long), "replay"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_maps_are_no_less_exact_than_eager(dtype, path, exact, pictures):
    engine = Engine.load(STORE / "llava-shapes", device="cpu", dtype=dtype)
    answering = on_static_buffers(engine, "compiled") if path == "compiled" else engine
    options = {**EVERYTHING, "max_new_tokens": 16}
    records = answering.run([GenerateRequest.build(p, q, options) for p, q in zip(pictures, PROMPTS, strict=True)])
    if path == "replay":
        records = engine.run(
            [GenerateRequest.replay(record, EVERYTHING, p) for record, p in zip(records, pictures, strict=True)]
        )
    eager = eager_model(getattr(torch, dtype))
    ours, theirs = [], []
    for i, record in enumerate(records):
        assert record.facts.model.dtype == dtype
        assert record.run["decoder"] == {"growing": "dynamic"}.get(path, path)
        pixels = processor_inputs(engine.loaded.processor, pictures[i : i + 1], PROMPTS[i : i + 1])["pixel_values"]
        wanted = answer_rows(exact, pixels, record)
        ours.append(np.abs(record.maps_float().reshape(wanted.shape) - wanted).ravel())
        theirs.append(np.abs(answer_rows(eager, pixels, record) - wanted).ravel())
    mine, other = np.concatenate(ours), np.concatenate(theirs)
    # The half-precision hidden states are the same on both sides and dominate; ours adds no rounding of its own.
    assert 0 < mine.mean() <= other.mean()
    assert mine.max() <= other.max() * 1.25


def test_float32_maps_are_as_exact_as_rounding_allows(engine, exact, pictures):
    record = engine.run([GenerateRequest.build(pictures[0], PROMPTS[0], {**EVERYTHING, "max_new_tokens": 16})])[0]
    pixels = processor_inputs(engine.loaded.processor, pictures[:1], PROMPTS[:1])["pixel_values"]
    wanted = answer_rows(exact, pixels, record)
    np.testing.assert_allclose(record.maps_float().reshape(wanted.shape), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 1.0, "seed": 1}, {"temperature": 1.0, "top_k": 3, "top_p": 0.5}]
)
def test_logits_that_overflow_refuse_their_request_alone(options, engine, pictures):
    def overflow(_module, _inputs, logits: torch.Tensor) -> torch.Tensor:
        return logits * float("nan")

    request = GenerateRequest.build(pictures[0], PROMPTS[0], {**options, "max_new_tokens": 3})
    hook = engine.loaded.model.lm_head.register_forward_hook(overflow)
    try:
        [refusal] = engine.run([request])
    finally:
        hook.remove()
    assert isinstance(refusal, RequestError)
    assert (refusal.code, refusal.field) == ("internal", "model")
    assert "not finite" in refusal.message
