"""The shipped model on a GPU: the same answers as on the CPU, the same maps within rounding, eager as the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters
from transformers import LlavaForConditionalGeneration

from integration.conftest import STORE
from integration.reference import toolkit_reduction
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_server.read.images import open_image
from llava_server.run.static import StaticDecoder
from support.pictures import scene_bytes

PROMPTS = ["Describe the image.", "What colour is the square?", "Is there a red circle in the image?"]
PICTURES = [scene_bytes(256, 192, 1), scene_bytes(192, 240, 2), scene_bytes(192, 192, 3)]
EVERYTHING = {"layers": "all", "heads": "all", "reduction": "none", "precision": "float32", "max_new_tokens": 24}


def run(engine: Engine) -> list:
    return engine.run([GenerateRequest.build(p, q, EVERYTHING) for p, q in zip(PICTURES, PROMPTS, strict=True)])


@pytest.fixture(scope="module", autouse=True)
def _exact_float32():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_gpu_equals_cpu_in_float32(device):
    here = run(Engine.load(STORE / "llava-shapes", device=device, dtype="float32"))
    there = run(Engine.load(STORE / "llava-shapes", device="cpu", dtype="float32"))
    for gpu, cpu in zip(here, there, strict=True):
        assert gpu.facts.model.device.startswith(device)
        assert [t.id for t in gpu.tokens] == [t.id for t in cpu.tokens]
        np.testing.assert_allclose(gpu.maps_float(), cpu.maps_float(), atol=1e-4, rtol=0)


def test_compiled_steps_replayed_as_cuda_graphs_equal_the_growing_cache(device):
    engine = Engine.load(STORE / "llava-shapes", device=device, dtype="float32")
    decoder = StaticDecoder(engine.loaded, (1, 4), (128,))
    decoder.warm_up()
    compiled = Engine(engine.loaded, engine.settings, decoder)
    before = counters["stats"]["unique_graphs"]
    for count in (1, 3, 2, 1):
        requests = [GenerateRequest.build(p, q, EVERYTHING) for p, q in zip(PICTURES, PROMPTS, strict=True)][:count]
        for ours, theirs in zip(compiled.run(requests), engine.run(requests), strict=True):
            assert ours.run["decoder"] == "compiled"
            assert [t.id for t in ours.tokens] == [t.id for t in theirs.tokens]
            np.testing.assert_allclose(ours.maps_float(), theirs.maps_float(), atol=1e-5, rtol=0)
    assert counters["stats"]["unique_graphs"] == before
    # A graph that cannot be recorded falls back silently and says so only here.
    assert counters["inductor"]["cudagraph_skips"] == 0


def test_replay_equals_the_online_capture(device):
    engine = Engine.load(STORE / "llava-shapes", device=device, dtype="float32")
    online = run(engine)
    given = {name: value for name, value in EVERYTHING.items() if name != "max_new_tokens"}
    again = engine.run([GenerateRequest.replay(r, given, p) for r, p in zip(online, PICTURES, strict=True)])
    for ours, theirs in zip(again, online, strict=True):
        np.testing.assert_allclose(ours.maps_float(), theirs.maps_float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_padded_batches_stay_finite_in_half_precision(device, dtype):
    # Prompts of three lengths: some kernels answer the padding of the shorter ones with NaN.
    engine = Engine.load(STORE / "llava-shapes", device=device, dtype=dtype)
    assert len({len(record.facts.prompt.ids) for record in run(engine)}) > 1
    for record in run(engine):
        assert np.isfinite(record.maps_float()).all()
        np.testing.assert_allclose(record.views["selection"].shares.sum(-1), 1, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_maps_are_no_less_exact_than_eager(device, dtype):
    exact = run(Engine.load(STORE / "llava-shapes", device="cpu", dtype="float32"))[0]
    half = run(Engine.load(STORE / "llava-shapes", device=device, dtype=dtype))[0]
    same = 0
    for ours, reference in zip(half.tokens, exact.tokens, strict=False):
        if ours.id != reference.id:
            break
        same += 1
    assert same >= 5
    eager = LlavaForConditionalGeneration.from_pretrained(
        STORE / "llava-shapes", dtype=getattr(torch, dtype), attn_implementation="eager", device_map={"": device}
    )
    ids = torch.tensor([[*exact.facts.prompt.ids, *(t.id for t in exact.tokens[:same])]], device=device)
    engine = Engine.load(STORE / "llava-shapes", device="cpu", dtype="float32")
    loaded = engine.loaded
    picture = open_image(PICTURES[0], engine.settings.limits).pixels
    pixels = loaded.family.inputs(loaded.processor, [picture])["pixel_values"].to(device, eager.dtype)
    with torch.no_grad():
        attentions = eager(input_ids=ids, pixel_values=pixels, output_attentions=True).attentions
    start, count, length = exact.grids[0].positions[0][0], 64, len(exact.facts.prompt.ids)
    rows = torch.stack([a[0, :, length - 1 : length - 1 + same, start : start + count] for a in attentions])
    maps = rows.permute(2, 0, 1, 3).float().cpu().numpy().reshape(same, *exact.maps_float().shape[1:])
    theirs = np.abs(toolkit_reduction(maps, "none") - exact.maps_float()[:same]).mean()
    ours = np.abs(half.maps_float()[:same] - exact.maps_float()[:same]).mean()
    assert ours <= theirs * 1.25
