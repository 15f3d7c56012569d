"""Left padding under kernels that answer rows without any key with NaN, as some do on GPUs."""

from __future__ import annotations

import numpy as np
import torch

from integration.conftest import STORE
from llava_server.ask.request import GenerateRequest
from llava_server.attend import capture
from llava_server.engine import Engine
from llava_wire import Record

PROMPTS = ["Describe the image.", "What colour is the square?", "Is there a red circle in the image?"]
EVERYTHING = {"layers": "all", "heads": "all", "reduction": "none", "precision": "float32", "max_new_tokens": 12}


def test_padding_never_reaches_the_answer(pictures, monkeypatch):
    engine = Engine.load(STORE / "llava-shapes", device="cpu")
    requests = [GenerateRequest.build(p, q, EVERYTHING) for p, q in zip(pictures, PROMPTS, strict=True)]
    alone = [engine.run([request])[0] for request in requests]
    masks: list[torch.Tensor] = []
    real = capture.sdpa_attention_forward

    def harsh(module, query, key, value, attention_mask, **kwargs):
        output, weights = real(module, query, key, value, attention_mask, **kwargs)
        if attention_mask is not None:
            masks.append(attention_mask)
            blind = ~attention_mask.any(-1)[:, 0]  # [batch, row]
            output = output.masked_fill(blind[..., None, None], float("nan"))
        return output, weights

    monkeypatch.setattr(capture, "sdpa_attention_forward", harsh)
    padded = engine.run(requests)
    assert any(mask.shape[-2] > 1 for mask in masks), "the batch was not padded"
    for ours, theirs in zip(padded, alone, strict=True):
        assert isinstance(ours, Record), ours
        assert [token.id for token in ours.tokens] == [token.id for token in theirs.tokens]
        np.testing.assert_allclose(ours.maps_float(), theirs.maps_float(), atol=1e-6, rtol=0)
