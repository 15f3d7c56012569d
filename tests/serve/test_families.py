"""A tiny checkpoint of every family, some always and all in long tests: HTTP and gRPC give what the engine gives."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import build_mar
import numpy as np
import pytest
import yaml

from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_viewer import Client
from llava_wire import Record
from servekit import paths
from servekit.server import start_server
from servekit.state import ServerState
from support.pictures import scene_bytes

pytestmark = pytest.mark.serve
HERE = Path(__file__).resolve().parents[1] / "integration" / "families"
NAMES = sorted(path.stem.removeprefix("test_").replace("_", "-") for path in HERE.glob("test_*.py"))
ALWAYS = ("llava-next", "llava-onevision")
"""Also served where long tests are left out, by one server: two grids, newlines, pooling, a processor read in parts."""
OTHERS = tuple(name for name in NAMES if name not in ALWAYS)
SETTINGS = {"dtype": "float32", "device": "cpu", "threads": 1}
WORKER = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 2, "maxBatchDelay": 20, "startupTimeout": 600}
Serving = tuple[ServerState, Path]
MAPS = {"reduction": "none", "layers": "all", "heads": "all", "precision": "float32", "max_new_tokens": 3}
FLAT, QUESTION = scene_bytes(400, 60, seed=1), "What is there?"


def store(folder: Path, names: Sequence[str]) -> Path:
    """A folder with a YAML, weights and an archive of each."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(paths, "MODEL_STORE", folder)
        patched.setattr(build_mar, "import_test", lambda built: None)  # of the same code each time
        for name in names:
            module = importlib.import_module(f"integration.families.test_{name.replace('-', '_')}")
            module.checkpoint(folder / "weights" / name)
            (folder / f"{name}.yaml").write_text(yaml.safe_dump({**WORKER, "handler": SETTINGS}))
            build_mar.build(name)
    return folder


@pytest.fixture(scope="module")
def serving(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    name, folder = f"test-families-{os.getpid()}", store(tmp_path_factory.mktemp("store"), request.param)
    with start_server(request.param, name=name, ports="auto", store=folder, timeout_s=600) as server:
        yield server.state, folder
    shutil.rmtree(paths.run_folder(name), ignore_errors=True)


SERVED = [
    *(pytest.param(ALWAYS, name, id=name) for name in ALWAYS),
    *(pytest.param(OTHERS, name, id=name, marks=pytest.mark.long) for name in OTHERS),
]


@pytest.mark.parametrize(("serving", "name"), SERVED, indirect=["serving"])
def test_a_family_is_served(serving: Serving, name: str) -> None:
    state, store = serving
    engine = Engine.load(store / f"{name}.yaml", device="cpu", dtype="float32")
    [expected] = engine.run([GenerateRequest.build(FLAT, QUESTION, MAPS)])
    assert isinstance(expected, Record), expected
    key = Path(state.key_file)
    for made in (Client.http(state.http, model=name, token=key), Client.grpc(state.grpc, model=name, token=key)):
        with made as client:
            found = client.predict(FLAT, QUESTION, MAPS)
        assert [token.id for token in found.tokens] == [token.id for token in expected.tokens]
        assert found.grids == expected.grids
        assert found.facts.checks["self_test"]["result"] == "passed"
        for view, other in zip(found.views.values(), expected.views.values(), strict=True):
            np.testing.assert_allclose(view.patches_float(), other.patches_float(), atol=3e-6, rtol=0)
            assert (view.separators is None) == (other.separators is None)
            if view.separators is not None and other.separators is not None:
                np.testing.assert_allclose(view.separators, other.separators, atol=3e-6, rtol=0)
