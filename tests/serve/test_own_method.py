"""The method of docs/own-method.md in a model's archive: over HTTP and gRPC, by the command, and replayed."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration

from llava_viewer.cli import main
from llava_wire import Record, encode
from llava_wire.container import read_file
from support.asking import MODEL, Asker, running_server
from support.direct_pull import direct
from support.looking import OWN_METHOD, install

pytestmark = pytest.mark.serve
STORE = Path(__file__).resolve().parents[2] / "model_store"
QUESTION = "Is there a blue square?"
PULL = {"method": "pull", "layers": "all", "heads": "all", "reduction": "none"}


@pytest.fixture(scope="module")
def serving(built_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    """A server of the model's archive with one package more in it."""
    folder = tmp_path_factory.mktemp("store")
    site = install(folder / "site", {"pull": "own_method:DECLARATION"}, OWN_METHOD)
    shutil.copy(built_archive, folder)
    with zipfile.ZipFile(folder / built_archive.name, "a") as archive:
        for path in site.rglob("*"):
            if path.is_file():
                archive.write(path, str(path.relative_to(site)))
    with running_server("test-method", store=folder) as one:
        yield one


@pytest.fixture(scope="module")
def expected(serving: Asker, picture: bytes) -> tuple[Record, np.ndarray]:
    """The record of one answer, and its maps computed directly, [row, layer, head, patch]."""
    record = serving.form(picture, QUESTION, {"max_new_tokens": 6, **PULL, "precision": "float32"}).record()
    model = LlavaForConditionalGeneration.from_pretrained(
        STORE / MODEL, dtype=torch.float32, attn_implementation="eager"
    )
    processor = AutoProcessor.from_pretrained(STORE / MODEL, backend="pil")
    return record, direct(model.eval(), processor, picture, record)


def same(record: Record, maps: np.ndarray, tolerance: float) -> None:
    [view] = record.views.values()
    assert (view.facts.method.name, view.quantity.name, view.quantity.signed) == ("pull", "pull", True)
    assert view.shares is None
    found = view.maps_float()
    found = found.reshape(*found.shape[:3], -1)
    assert found.min() < 0 < found.max()
    np.testing.assert_allclose(found, maps, atol=tolerance * np.abs(maps).max(), rtol=0)


def test_over_http_the_maps_are_those_of_the_direct_computation(expected: tuple[Record, np.ndarray]) -> None:
    same(*expected, tolerance=2e-4)


def test_in_one_byte_over_grpc_and_replayed(
    serving: Asker, picture: bytes, expected: tuple[Record, np.ndarray]
) -> None:
    record, maps = expected
    one_byte = serving.grpc(picture, QUESTION, {"max_new_tokens": 6, **PULL}).record()
    [view] = one_byte.views.values()
    assert view.facts.encoding == "signed-u8"
    same(one_byte, maps, tolerance=1 / 250)
    again = serving.post(
        files={"record": encode(record), "image": picture, "options": json.dumps({**PULL, "precision": "float32"})}
    )
    same(again.record(), maps, tolerance=2e-4)


def test_the_command_asks_for_it(serving: Asker, picture: bytes, tmp_path: Path) -> None:
    image, out = tmp_path / "scene.png", tmp_path / "run.npz"
    image.write_bytes(picture)
    asked = ["predict", str(image), QUESTION, "--url", serving.state.http, "--key-file", serving.state.key_file]
    views = ["--view", 'name=two,method=pull,parameters={"power": 2},layers=2,heads=0,3', "--view", "name=mean"]
    assert main([*asked, *views, "-o", str(out)]) == 0
    from llava_wire import decode

    record = decode(read_file(out))
    assert record.views["two"].facts.method.parameters == {"power": 2}
    assert record.views["mean"].facts.method.name == "attention"
    assert main([*asked, "--method", "pull", "--parameter", "power=0.5", "-o", str(tmp_path / "b.npz")]) == 0


def test_what_is_wrong_is_refused_with_what_is_known(serving: Asker, picture: bytes) -> None:
    for options, field, says in (
        ({"method": "pul"}, "options.method", "did you mean 'pull'"),
        ({"method": "pull", "parameters": {"powr": 1}}, "options.parameters.powr", "did you mean 'power'"),
        ({"method": "pull", "stream": True}, "options.stream", "known only when the answer is finished"),
    ):
        error = serving.form(picture, QUESTION, options).error
        assert (error["code"], error["field"]) == ("invalid", field)
        assert says in error["message"]
