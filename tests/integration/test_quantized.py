"""Weights of 8 and 4 bits through bitsandbytes, really loaded and run on this CPU; placement and its limits."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import LlavaConfig

from integration.conftest import STORE
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import ModelSettings, SettingsError
from llava_server.engine import Engine
from llava_server.load import weights
from llava_server.load.family import family_of
from llava_server.load.memory import DeviceMemory
from llava_server.load.weights import check_weights, weight_bytes
from llava_wire import Record, decode, encode
from support.pictures import scene_bytes
from support.published import CONFIGS

bnb = pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (pip install '.[quantized]')")

SHAPES = STORE / "llava-shapes"


def load(**section: object) -> Engine:
    settings = {"name": "shapes", "source": "llava-shapes", **section}
    return Engine.load(SHAPES, settings=settings)


def ask(engine: Engine, count: int = 3) -> list[Record]:
    options = {"layers": "all", "heads": "all", "reduction": "none", "precision": "float32", "max_new_tokens": 16}
    pictures = [scene_bytes(200, 160, seed) for seed in range(count)]
    return engine.run([GenerateRequest.build(picture, "Describe the image.", options) for picture in pictures])


def loaded_bytes(engine: Engine) -> int:
    """Bytes of all weights as they lie in memory, scales of quantised ones included."""
    total = 0
    for parameter in engine.loaded.model.parameters():
        total += parameter.numel() * parameter.element_size()
        for scales in (
            getattr(parameter, "SCB", None),
            getattr(getattr(parameter, "quant_state", None), "absmax", None),
        ):
            total += 0 if scales is None else scales.numel() * scales.element_size()
    # A first forward, which the self-test makes, moves the scales of 8-bit weights into the layer's state.
    for part in engine.loaded.model.modules():
        moved = getattr(getattr(part, "state", None), "SCB", None)
        if isinstance(moved, torch.Tensor) and getattr(part.weight, "SCB", None) is None:
            total += moved.numel() * moved.element_size()
    return total


def test_eight_bits_answer_and_look_like_whole_weights(engine: Engine):
    small = load(quantization="8bit", dtype="float16", device="cpu")
    text = small.loaded.model.model.language_model
    assert all(isinstance(part, bnb.nn.Linear8bitLt) for part in text.modules() if isinstance(part, torch.nn.Linear))
    assert not any(isinstance(part, bnb.nn.Linear8bitLt) for part in small.loaded.model.model.vision_tower.modules())
    whole, ours = ask(engine), ask(small)
    assert [record.answer for record in ours] == [record.answer for record in whole]
    for one, other in zip(ours, whole, strict=True):
        assert one.facts.model.dtype == "float16, 8bit weights"
        maps, reference = one.maps_float(), other.maps_float()
        assert np.abs(maps - reference).mean() < 0.05 * reference.mean()
        assert encode(decode(encode(one))) == encode(one)


def test_four_bits_run_and_layers_of_odd_width_stay_whole():
    small = load(quantization="4bit", dtype="bfloat16", device="cpu")
    layer = small.loaded.model.model.language_model.layers[0]
    assert isinstance(layer.self_attn.q_proj, bnb.nn.Linear4bit)
    assert not isinstance(layer.mlp.up_proj, bnb.nn.Linear4bit)  # 344 is no multiple of 64
    for record in ask(small):
        assert isinstance(record, Record)
        view = next(iter(record.views.values()))
        np.testing.assert_allclose(view.shares.sum(-1), 1, atol=1e-4)
        np.testing.assert_allclose(view.maps_float().sum((-1, -2)), view.shares[..., 1], atol=1e-4)


@pytest.mark.parametrize("quantization", ["", "8bit", "4bit"])
def test_the_weights_take_what_the_estimate_says(quantization: str):
    engine = load(quantization=quantization, dtype="float16", device="cpu")
    said = weight_bytes(family_of(LlavaConfig.from_pretrained(SHAPES)), torch.float16, quantization)
    # Some CPUs (AVX-512 with bfloat16) hold the scales of 4 bits in half of what every other device takes.
    scales = [part.quant_state.absmax for part in engine.loaded.model.parameters() if hasattr(part, "quant_state")]
    saved = sum(2 * one.numel() for one in scales if one.dtype == torch.bfloat16)
    assert said == loaded_bytes(engine) + saved


def test_a_7b_of_4_bits_fits_where_whole_weights_do_not():
    family = family_of(LlavaConfig.from_pretrained(CONFIGS))
    whole, eight, four = (weight_bytes(family, torch.float16, q) for q in ("", "8bit", "4bit"))
    assert whole == pytest.approx(14.13e9, rel=1e-3)
    assert 7.5e9 < eight < 7.8e9
    assert 4.7e9 < four < 4.9e9


def test_spread_quantised_layers_must_fit_the_gpus_without_the_host(monkeypatch):
    family = family_of(LlavaConfig.from_pretrained(CONFIGS))
    gpu, host = torch.device("cuda", 0), torch.device("cpu")
    monkeypatch.setattr(weights, "devices_of", lambda device: [gpu, host])
    free = {gpu: 8_000_000_000, host: 100_000_000_000}
    monkeypatch.setattr(
        weights, "device_memory", lambda place: DeviceMemory(str(place), free[place], free[place], "test")
    )
    spread = ModelSettings(device="map", quantization="8bit")
    with pytest.raises(
        SettingsError, match=r"weights: got 7\d+ bytes in float16 with 8bit weights, expected 7200000000"
    ):
        check_weights(family, spread, "map", "float16")
    check_weights(family, replace(spread, quantization="4bit"), "map", "float16")
    check_weights(family, replace(spread, quantization=""), "map", "float16")


def test_without_bitsandbytes_the_error_says_how_to_install_it(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else real(name))
    with pytest.raises(SettingsError, match=r"quantization: got '8bit' without .*its extra 'quantized'"):
        load(quantization="8bit", device="cpu")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"quantization": "3bit"}, r"handler.quantization: got '3bit', expected \['', '8bit', '4bit'\]"),
        ({"quantization": "8bit", "compile": True}, "handler.compile: got true with quantized weights"),
        ({"max_memory": {"cpu": "1GiB"}}, "handler.max_memory: got one for device None, expected with device: map"),
        ({"device": "map", "max_memory": {"cpu": "lots"}}, "handler.max_memory.cpu: got 'lots'"),
        ({"device": "map", "max_memory": {"gpu": 5}}, "handler.max_memory.gpu: got 5, expected GPU numbers or cpu"),
        ({"device": "map", "max_memory": {0: True}}, "handler.max_memory.0: got True"),
    ],
)
def test_settings_that_cannot_be_are_named(section: dict[str, object], message: str):
    with pytest.raises(SettingsError, match=message):
        ModelSettings.from_dict(section)


def test_a_mapped_model_keeps_to_its_memory(engine: Engine):
    mapped = load(device="map", max_memory={"cpu": "1GiB"}, dtype="float32")
    for one, other in zip(ask(mapped), ask(engine), strict=True):
        assert [token.id for token in one.tokens] == [token.id for token in other.tokens]
        np.testing.assert_allclose(one.maps_float(), other.maps_float(), atol=1e-6)
    with pytest.raises(SettingsError, match=r"got \d+ bytes in float32, expected .*300000 available .*\(max_memory\)"):
        load(device="map", max_memory={"cpu": "300KB"}, dtype="float32")
