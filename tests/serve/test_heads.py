"""The command `heads` against a real server: from images to named sets, and a request that takes one."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from bench.heads import OWN, lines_of
from llava_viewer.cli import main
from llava_wire.container import decode
from servekit.state import current_token
from shapes.questions import ask
from shapes.scenes import make_scene
from shapes.sightings import Item
from support.asking import Asker

pytestmark = pytest.mark.serve
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six described scenes with the boxes of their objects."""
    rng = random.Random(8)
    items = []
    for _ in range(6):
        scene = make_scene(rng)
        question = ask(rng, scene.layout, "describe")
        assert question is not None
        items.append(Item(scene, question))
    return lines_of(items, tmp_path_factory.mktemp("scenes"))


def test_from_images_to_sets_and_a_request_that_takes_one(
    asker: Asker, scenes: Path, tmp_path: Path, capsys: Captured
) -> None:
    where = ["--grpc", asker.state.grpc, "--token", current_token(asker.state)]
    out, run = tmp_path / "heads.json", tmp_path / "run.npz"
    assert main(["heads", str(scenes), "-o", str(out), *where]) == 0
    said = capsys.readouterr()
    assert "6 questions, by pointing, agreement" in said.err
    assert "6 images: other ones may give other heads" in said.err
    assert "last by pointing" in said.out
    sets = {one["name"]: one for one in json.loads(out.read_text("utf-8"))["sets"]}
    assert {one["model"] for one in sets.values()} == {"llava-shapes"}
    assert sets["last-agreement"]["heads"][0] == list(OWN["shape"])
    assert {sets["role-1"]["heads"][0][0], sets["role-2"]["heads"][0][0]} == {1, 2}, "a layer each"
    image = str(scenes.parent / "0.png")
    assert (
        main(["predict", image, "Describe the image.", *where, "--heads", f"{out}#last-agreement", "-o", str(run)]) == 0
    )
    [view] = decode(run.read_bytes()).views.values()
    assert [list(pair) for pair in view.facts.pairs] == sets["last-agreement"]["heads"]


def test_the_row_of_the_question_is_warned_of(asker: Asker, scenes: Path, capsys: Captured) -> None:
    where = ["--url", asker.state.http, "--token", current_token(asker.state)]
    assert main(["heads", str(scenes), "--rows", "question", "--by", "localization", *where, "--json"]) == 0
    said = capsys.readouterr()
    assert "warning: rows of the question: on llava-shapes" in said.err
    kept = json.loads(said.out)
    assert kept["notes"][0].startswith("rows of the question: on llava-shapes")
    assert {one["rows"] for one in kept["sets"]} == {"question"}
