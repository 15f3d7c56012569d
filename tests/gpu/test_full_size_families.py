"""Further models at their real configurations with random weights on one GPU of 80 GB: published grids, rows that add
up, memory within the estimate. Elsewhere the same with shrunk text models and towers.
"""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.gpu.findings import limited
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import ModelSettings
from llava_server.engine import Engine
from llava_wire import Record
from support.full_sizes import SPECIAL, STORE, random_model
from support.pictures import scene_bytes

GRIDS = {
    "llava-v1.6-vicuna-7b": (576 + 36 * 49, {"base": (24, 24), "detail": (36, 48)}),
    "llava-onevision-7b": (729 + 40 * 55, {"base": (27, 27), "detail": (40, 54)}),
    "qwen2.5-vl-7b": (17 * 23, {"base": (17, 23)}),
    "pixtral-12b": (30 * 41, {"base": (30, 40)}),
    "llava-1.5-13b": (576, {"base": (24, 24)}),
}
"""What an image of 640 x 480 px takes in a prompt: its tokens, separators among them, and (rows, columns) of its grids.

LLaVA-NeXT fits it into 672 x 672 px, 672 x 504 of them filled, OneVision into 768 x 768 px, 40 of 54 rows filled.
"""
PIXTRALS = ("[IMG]", "[IMG_BREAK]", "[IMG_END]")
NEEDED_BYTES = 40 << 30
LIMIT_S = 25.0
_REHEARSAL = 6
"""A rehearsal may take so many times as long."""


@pytest.mark.parametrize("name", GRIDS)
def test_default_views_of_an_image(name: str, device: str, tmp_path: Path) -> None:
    on_gpu = device.startswith("cuda")
    if on_gpu and torch.cuda.get_device_properties(0).total_memory < NEEDED_BYTES:
        pytest.skip("needs a GPU with 40 GiB of memory or more")
    with limited(LIMIT_S * (1 if on_gpu else _REHEARSAL)):
        ask(name, device, tmp_path)
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
        assert torch.cuda.memory_allocated() < 1 << 30, "something holds the model still: the next may not fit"


def ask(name: str, device: str, folder: Path) -> None:
    """One question to a model that nothing holds afterwards."""
    settings = ModelSettings.from_yaml(STORE / f"{name}.yaml")
    if not device.startswith("cuda"):  # the shrunk model has other layers and heads
        settings = ModelSettings.from_dict({"name": name})
    engine = Engine.from_model(*random_model(name, folder, device), settings)
    assert engine.loaded.checks["self_test"]["result"] == "passed"
    tokens, grids = GRIDS[name]
    request = GenerateRequest.build(scene_bytes(640, 480, 1), "What is in the image?", {"max_new_tokens": 16})
    estimate = engine.estimate(request).device_bytes
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        weights = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    [record] = engine.run([request])
    if device.startswith("cuda"):
        peak = torch.cuda.max_memory_allocated() - weights
        print(f"{name}: weights {weights / 1e9:.1f} GB, estimate {estimate / 1e6:.0f} MB, peak {peak / 1e6:.0f} MB")
        assert peak < estimate + (1 << 30)
    assert isinstance(record, Record), record
    assert len(record.tokens) == 16
    assert {grid.name: (grid.rows, grid.cols) for grid in record.grids} == grids
    taken = {place for word, place in SPECIAL[name].items() if word in ("<image>", "<|image_pad|>", *PIXTRALS)}
    assert sum(one in taken for one in record.facts.prompt.ids) == tokens
    assert [*record.views] == [view.name for view in settings.default_views]
    patches = sum(rows * cols for rows, cols in grids.values())
    for view in record.views.values():
        maps = view.patches_float()
        assert maps.shape == (16, patches)
        assert np.isfinite(maps).all()
        np.testing.assert_allclose(view.shares.sum(-1), 1, atol=1e-4)
        np.testing.assert_allclose(maps.sum(-1), view.shares[..., 1], atol=1e-3)
        assert (view.separators is not None) == (tokens > patches)
