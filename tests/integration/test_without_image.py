"""Which words need the image: the values of a separate implementation, and every way to an answer agrees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlavaForConditionalGeneration

from integration.conftest import STORE
from integration.reference import processor_inputs
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record, RequestError, decode, encode

QUESTION = "Describe the image."
LIMIT = 1.0


def ask(engine: Engine, *pictures: bytes, **options) -> list[Record]:
    records = engine.run([GenerateRequest.build(one, QUESTION, options) for one in pictures])
    assert all(isinstance(record, Record) for record in records), records
    return records


def blind(record: Record) -> np.ndarray:
    return np.array([token.without_image for token in record.tokens])


def test_it_is_what_a_forward_with_mean_image_tokens_gives(engine, first_scene):
    [record] = ask(engine, first_scene)
    record = decode(encode(record))
    model = LlavaForConditionalGeneration.from_pretrained(STORE / "llava-shapes", dtype=torch.float32).eval()
    inputs = processor_inputs(engine.loaded.processor, [first_scene], [QUESTION])
    ids = torch.cat([inputs["input_ids"], torch.tensor([[token.id for token in record.tokens]])], 1)
    with torch.no_grad():
        entered = model.get_input_embeddings()(ids)
        features = torch.cat(list(model.get_image_features(inputs["pixel_values"]).pooler_output))
        entered[0, ids[0] == model.config.image_token_id] = features.mean(0)
        logits = model(inputs_embeds=entered).logits
    rows = slice(inputs["input_ids"].shape[1] - 1, -1)
    expected = logits[0, rows].log_softmax(-1).gather(1, ids[0, inputs["input_ids"].shape[1] :, None])[:, 0]
    np.testing.assert_allclose(blind(record), expected.numpy(), atol=1e-4)
    # A reference of its own, computed by hand elsewhere.
    assert (record.tokens[5].text, record.tokens[5].without_image) == (" yellow", pytest.approx(-2.8125, abs=1e-3))
    falls = [token.logprob - token.without_image > LIMIT for token in record.tokens if not token.special]
    assert record.facts.checks["image"] == {"result": "measured", "needing": sum(falls), "of": len(falls), "nats": 1.0}
    assert 4 <= sum(falls) < len(falls)


def test_batch_stream_replay_and_static_buffers_agree(engine, static_engine, first_scene, pictures):
    [alone] = ask(engine, first_scene)
    batch = ask(engine, first_scene, *pictures)
    np.testing.assert_allclose(blind(batch[0]), blind(alone), atol=1e-4)
    [static] = ask(static_engine, first_scene)
    np.testing.assert_allclose(blind(static), blind(alone), atol=1e-4)
    [again] = engine.run([GenerateRequest.replay(alone, {"steps": [3]}, first_scene)])
    assert isinstance(again, Record)
    np.testing.assert_allclose(blind(again), blind(alone), atol=1e-4)
    *_, streamed = engine.stream(GenerateRequest.build(first_scene, QUESTION, {}))
    np.testing.assert_allclose(blind(streamed), blind(alone), atol=1e-4)
    [several] = ask(engine, first_scene, num_beams=2, num_return_sequences=2)
    assert all("image" in one.facts.checks for one in (several, *several.alternatives))


def test_it_can_be_left_out_and_wrong_names_are_refused(engine, first_scene):
    [record] = ask(engine, first_scene, check=[])
    assert "image" not in record.facts.checks
    assert all(token.without_image is None for token in record.tokens)
    for wrong in (["picture"], ["image", "image"], "image", None):
        with pytest.raises(RequestError, match=r"expected (a list of|one of|each check)") as refused:
            GenerateRequest.build(first_scene, QUESTION, {"check": wrong})
        assert refused.value.field.startswith("options.check")


def test_the_estimate_counts_it(engine, first_scene):
    with_it, without = (
        engine.estimate(GenerateRequest.build(first_scene, QUESTION, {"check": names})) for names in (["image"], [])
    )
    assert with_it.device_bytes >= without.device_bytes
