"""A family of another package in a model's archive: several pictures and grids over HTTP, gRPC, by client and command.

Nothing of the project is changed for it: the archive of the small model gets the package, its weights and a section of
settings, as `build_mar` would put them there. What the server answers is what the engine answers in this process.
"""

from __future__ import annotations

import base64
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from llava_doors.door import FAMILIES
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_viewer import Client, load
from llava_viewer.cli import main
from llava_wire import Record, RequestError, encode
from support import toy_family
from support.asking import MODEL, Answer, Asker, running_server
from support.installed import installed
from support.pictures import scene_bytes

pytestmark = pytest.mark.serve
ROOT = Path(__file__).resolve().parents[2]
SHAPES = ROOT / "model_store" / MODEL
WIDE, TALL, SQUARE = (scene_bytes(*size, seed=size[0]) for size in ((300, 140), (120, 260), (97, 101)))
QUESTION = "What differs?"
MAPS = {"rows": "both", "reduction": "none", "layers": "all", "heads": "all", "precision": "float32"}
OPTIONS = {**MAPS, "max_new_tokens": 4}
SETTINGS: dict[str, Any] = {
    "name": MODEL, "revision": "1", "dtype": "float32", "device": "cpu", "threads": 1, "limits": {"max_images": 3},
}  # fmt: skip
GRIDS = ["image 1, base", "image 1, detail", "image 2, base", "image 2, detail"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "weights"
    folder.mkdir()
    toy_family.write(folder, SHAPES)
    return folder


def with_toy(archive: Path, weights: Path, target: Path) -> None:
    """The archive of the small model with another family's package, weights and settings."""
    package = ROOT / "tests" / "support"
    about = "somebody_else-1.0.dist-info"
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w") as new:
        [config] = [name for name in old.namelist() if name.rpartition("/")[2] == "model-config.yaml"]
        for name in old.namelist():
            if name != config and not name.startswith("weights/"):
                new.writestr(name, old.read(name))
        said = yaml.safe_load(old.read(config))
        new.writestr(config, yaml.safe_dump({**said, "handler": {**SETTINGS, "model_path": "weights"}}))
        for path in weights.iterdir():
            new.write(path, f"weights/{path.name}")
        for name in ("__init__.py", "toy_family.py"):
            new.write(package / name, f"support/{name}")
        new.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: somebody-else\nVersion: 1.0\n")
        points = f"[{FAMILIES.group}]\nmine = support.toy_family:DECLARATION\n"
        new.writestr(f"{about}/entry_points.txt", points)


@pytest.fixture(scope="module")
def serving(built_archive: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    folder = tmp_path_factory.mktemp("store")
    with_toy(built_archive, weights, folder / built_archive.name)
    with running_server("test-family", store=folder) as one:
        yield one


@pytest.fixture(scope="module")
def engine(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The same model in this process."""
    with installed(tmp_path_factory.mktemp("site"), FAMILIES, "support.toy_family:DECLARATION"):
        yield Engine.load(weights, settings=SETTINGS, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def expected(engine: Engine) -> Record:
    """What the engine answers about both pictures."""
    [record] = engine.run([GenerateRequest.build([WIDE, TALL], QUESTION, OPTIONS)])
    assert isinstance(record, Record)
    return record


def same(found: Record, expected: Record) -> None:
    """The same record, its maps to within what sums in another order may change."""
    assert [grid.name for grid in found.grids] == GRIDS
    assert (found.facts.images, found.grids) == (expected.facts.images, expected.grids)
    assert [token.id for token in found.tokens] == [token.id for token in expected.tokens]
    assert found.facts.prompt == expected.facts.prompt
    assert found.queries == expected.queries
    for name, view in expected.views.items():
        np.testing.assert_allclose(found.views[name].patches_float(), view.patches_float(), atol=3e-6)
        assert view.shares is not None
        np.testing.assert_allclose(found.views[name].shares, view.shares, atol=3e-6)


def form(asker: Asker, *pictures: bytes, options: Any = OPTIONS, **more: bytes) -> Answer:
    files: list[tuple[str, Any]] = [("image", (f"{i}.png", data, "image/png")) for i, data in enumerate(pictures)]
    fields = more or {"prompt": QUESTION.encode()}
    files += [(name, (None, value)) for name, value in {**fields, "options": json.dumps(options).encode()}.items()]
    return asker.post(headers={"Accept": "application/x-npz"}, files=files)


def test_a_form_and_json_of_two_pictures_get_the_engines_record(serving: Asker, expected: Record) -> None:
    answer = form(serving, WIDE, TALL)
    same(answer.record(), expected)
    body = {"image": [base64.b64encode(one).decode() for one in (WIDE, TALL)], "prompt": QUESTION, "options": OPTIONS}
    again = serving.post(headers={"Accept": "application/x-npz"}, json=body)
    assert again.lasting() == answer.lasting()
    uris = [f"data:image/png;base64,{one}" for one in body.pop("image")]
    listed = serving.post(headers={"Accept": "application/x-npz"}, json={**body, "images": uris})
    assert listed.lasting() == answer.lasting()
    numbered = form(serving, WIDE, image_2=TALL, prompt=QUESTION.encode())
    assert numbered.lasting() == answer.lasting()
    turned = form(serving, TALL, WIDE).record()
    assert turned.facts.images == expected.facts.images[::-1]


def test_a_grpc_map_of_two_pictures_gets_the_engines_record(serving: Asker, expected: Record) -> None:
    fields = {"image_2": TALL, "image": WIDE, "prompt": QUESTION.encode(), "options": json.dumps(OPTIONS).encode()}
    same(serving.grpc_map(fields).record(), expected)
    error = serving.grpc_map({**fields, "image_4": SQUARE}).error
    assert (error["field"], error["status"]) == ("image_3", 400)


def test_one_picture_is_one_picture(serving: Asker, engine: Engine) -> None:
    [record] = engine.run([GenerateRequest.build(SQUARE, QUESTION, OPTIONS)])
    assert isinstance(record, Record)
    found = form(serving, SQUARE).record()
    assert [grid.name for grid in found.grids] == ["base", "detail"]
    [view] = found.views.values()
    np.testing.assert_allclose(view.patches_float(), record.views[view.name].patches_float(), atol=3e-6)


@pytest.mark.parametrize("way", ["http", "grpc"])
def test_the_client_keeps_both_pictures_and_replays(serving: Asker, expected: Record, way: str) -> None:
    state = serving.state
    key = Path(state.key_file)
    made = Client.http(state.http, token=key) if way == "http" else Client.grpc(state.grpc, token=key)
    with made as client:
        record = client.predict([WIDE, TALL], QUESTION, OPTIONS)
        same(record, expected)
        assert [name for name, _ in record.pictures] == ["picture.png", "pictures/1.png"]
        again = client.replay(record, MAPS)
        same(again, expected)
        assert again.pictures == record.pictures
        assert again.run["decoder"] == "replay"
        with pytest.raises(RequestError) as swapped:
            client.replay(record, MAPS, image=[TALL, WIDE])
        assert swapped.value.field in ("image", "record.prompt.ids")
        with pytest.raises(RequestError, match="got images, 1, expected the 2 of the record"):
            client.replay(record, MAPS, image=WIDE)


def test_a_stream_ends_with_the_same_record(serving: Asker, expected: Record) -> None:
    with Client.http(serving.state.http, token=Path(serving.state.key_file)) as client:
        *tokens, last = client.stream([WIDE, TALL], QUESTION, {**OPTIONS, "rows": "answer"})
    assert isinstance(last, Record)
    assert len(tokens) == len(expected.tokens)
    assert len(last.pictures) == 2
    assert last.facts.images == expected.facts.images


def test_the_command_asks_renders_and_replays(serving: Asker, expected: Record, tmp_path: Path) -> None:
    wide, tall, run = tmp_path / "wide.png", tmp_path / "tall.png", tmp_path / "run.npz"
    wide.write_bytes(WIDE)
    tall.write_bytes(TALL)
    where = ["--url", serving.state.http, "--key-file", serving.state.key_file]
    views = ["--layers", "all", "--heads", "all", "--reduction", "none", "--rows", "both", "--precision", "float32"]
    asked = ["predict", str(wide), str(tall), QUESTION, "--max-new-tokens", "4"]
    assert main([*asked, *where, *views, "-o", str(run), "--report", str(tmp_path / "run.html")]) == 0
    record = load(run)
    same(record, expected)
    page = (tmp_path / "run.html").read_text("utf-8")
    assert all(f"on {name}" in page for name in GRIDS)
    assert page.count('<image id="photo') == 2
    assert main(["replay", str(run), *where, *views, "-o", str(tmp_path / "again.npz")]) == 0
    same(load(tmp_path / "again.npz"), expected)
    bare = tmp_path / "bare.npz"
    bare.write_bytes(encode(expected))
    given = ["--image", str(wide), "--image", str(tall)]
    assert main(["replay", str(bare), *given, *where, *views, "-o", str(tmp_path / "third.npz")]) == 0
    assert len(load(tmp_path / "third.npz").pictures) == 2


def test_what_is_wrong_with_a_picture_names_it(serving: Asker) -> None:
    for pictures, field, status in (
        ([WIDE, b"no picture"], "image_2", 415),
        ([WIDE, TALL, b""], "image_3", 400),
        ([WIDE] * 17, "image", 422),
        ([WIDE] * 4, "image_4", 422),
        ([WIDE, b"https://example.org/a.png"], "image_2", 400),
    ):
        error = form(serving, *pictures).error
        assert (error["field"], error["status"]) == (field, status), error


def test_a_family_of_one_picture_refuses_two(asker: Asker) -> None:
    error = form(asker, WIDE, TALL).error
    assert (error["field"], error["status"]) == ("image_2", 422)
    assert "got 2 images, expected one, as llava-shapes takes" in error["message"]
    fields = {"image": WIDE, "image_2": TALL, "prompt": b"What?"}
    assert asker.grpc_map(fields).error["field"] == "image_2"
