"""LLaVA-1.5-7B at its real configuration with random weights on one GPU: capture runs, adds up, and fits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, LlavaConfig, LlavaForConditionalGeneration

from integration.conftest import STORE
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import ModelSettings
from llava_server.engine import Engine
from llava_server.run.static import StaticDecoder
from llava_wire import Record, RequestError
from support.pictures import scene_bytes
from support.published import CONFIGS, write_files


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Engine:
    """The real configuration in bfloat16; the tokenizer is a stand-in with the real special ids."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device, in a rehearsal too; PyTorch sees none here")
    if torch.cuda.get_device_properties(0).total_memory < 24 << 30:
        pytest.skip("needs a GPU with 24 GiB of memory or more")
    folder = tmp_path_factory.mktemp("files")
    config = LlavaConfig.from_pretrained(CONFIGS)
    write_files(folder, config)
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = LlavaForConditionalGeneration._from_config(config, dtype=torch.bfloat16).to(torch.bfloat16)
    model.generation_config.eos_token_id = 2
    settings = ModelSettings.from_yaml(STORE / "llava-1.5-7b.yaml")
    return Engine.from_model(model, AutoProcessor.from_pretrained(folder, backend="pil"), settings)


def test_default_views_at_full_size(engine):
    requests = [
        GenerateRequest.build(scene_bytes(640, 480, i), "What is in the image?", {"max_new_tokens": 32})
        for i in range(2)
    ]
    for record in engine.run(requests):
        assert isinstance(record, Record)
        assert list(record.views) == ["localization", "mean"]
        assert record.views["localization"].facts.pairs == ((14, 24), (14, 13))
        assert record.maps_float().shape == (len(record.tokens), 24, 24)
        for view in record.views.values():
            np.testing.assert_allclose(view.shares.sum(-1), 1, atol=1e-4)
            np.testing.assert_allclose(view.maps_float().sum((-1, -2)), view.shares[..., 1], atol=1e-3)
            assert np.isfinite(view.maps_float()).all()


def test_everything_unreduced_needs_a_larger_response_limit(engine):
    options = {"layers": "all", "heads": "all", "reduction": "none", "max_new_tokens": 64, "format": "npz"}
    refused = engine.run([GenerateRequest.build(scene_bytes(640, 480, 1), "What is in the image?", options)])[0]
    assert isinstance(refused, RequestError)
    assert refused.status == 507
    fitting = {**options, "max_new_tokens": 24}
    record = engine.run([GenerateRequest.build(scene_bytes(640, 480, 1), "What is in the image?", fitting)])[0]
    assert isinstance(record, Record)
    assert record.maps_float().shape[1:] == (32, 32, 24, 24)


def test_compiled_decoding_at_full_size(engine):
    decoder = StaticDecoder(engine.loaded, (1, 2), (128,))
    decoder.warm_up()
    compiled = Engine(engine.loaded, engine.settings, decoder)
    options = {"max_new_tokens": 24, "precision": "float32"}
    requests = [GenerateRequest.build(scene_bytes(640, 480, i), "What is in the image?", options) for i in range(2)]
    for ours, theirs in zip(compiled.run(requests), engine.run(requests), strict=True):
        assert ours.run["decoder"] == "compiled"
        # In half precision near-ties may flip; the step that both share is the prefill's.
        assert ours.tokens[0].id == theirs.tokens[0].id
        np.testing.assert_allclose(ours.maps_float()[0], theirs.maps_float()[0], atol=1e-4, rtol=0)


def test_capture_takes_little_memory_beside_plain_generation(engine):
    torch.cuda.synchronize()
    weights = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    request = GenerateRequest.build(scene_bytes(640, 480, 1), "What is in the image?", {"max_new_tokens": 64})
    needed = engine.estimate(request).device_bytes
    engine.run([request])
    peak = torch.cuda.max_memory_allocated() - weights
    print(f"estimate {needed / 1e6:.0f} MB, measured peak beside weights {peak / 1e6:.0f} MB")
    assert peak < needed + (1 << 30)
