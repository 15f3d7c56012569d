"""A method that takes values and gradients gives on the GPU what it gives on the CPU, in half precision too."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from integration.conftest import STORE
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record
from support.looking import OWN_METHOD, install, installed
from support.pictures import scene_bytes

PROMPTS = ["Describe the image.", "What colour is the square?", "Is there a red circle in the image?"]
PICTURES = [scene_bytes(256, 192, 1), scene_bytes(192, 240, 2), scene_bytes(192, 192, 3)]
PULL = {"method": "pull", "layers": "all", "heads": "all", "reduction": "none", "precision": "float32"}


@pytest.fixture(autouse=True, scope="module")
def _package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed(install(tmp_path_factory.mktemp("site"), {"pull": "own_method:DECLARATION"}, OWN_METHOD)):
        yield


@pytest.fixture(scope="module")
def exact() -> list[Record]:
    """The CPU's records in float32."""
    engine = Engine.load(STORE / "llava-shapes", device="cpu", dtype="float32")
    asked = {**PULL, "max_new_tokens": 8}
    return engine.run([GenerateRequest.build(p, q, asked) for p, q in zip(PICTURES, PROMPTS, strict=True)])


def replayed(device: str, dtype: str, records: list[Record]) -> list[Record]:
    """The same answers looked at again there, in one batch."""
    engine = Engine.load(STORE / "llava-shapes", device=device, dtype=dtype)
    return engine.run([GenerateRequest.replay(r, PULL, p) for r, p in zip(records, PICTURES, strict=True)])


def maps(record: Record) -> np.ndarray:
    [view] = record.views.values()
    return view.maps_float()


def test_gradients_and_values_equal_the_cpu_in_float32(device, exact):
    for one, other in zip(replayed(device, "float32", exact), exact, strict=True):
        assert isinstance(one, Record), one
        assert one.facts.model.device.startswith(device)
        np.testing.assert_allclose(maps(one), maps(other), atol=5e-4 * np.abs(maps(other)).max(), rtol=0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_keeps_the_maps_shape(device, dtype, exact):
    for one, other in zip(replayed(device, dtype, exact), exact, strict=True):
        assert isinstance(one, Record), one
        assert np.corrcoef(maps(one).ravel(), maps(other).ravel())[0, 1] > 0.995
