"""A store of generated scenes evaluated: the model card's pointing figures, and wrong builds that must not pass."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llava_eval.metric import evaluate
from llava_eval.tally import Figure
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_viewer.evaluation.asking import Asking
from llava_viewer.evaluation.page import evaluation_page
from llava_viewer.evaluation.result import evaluated
from llava_viewer.evaluation.scores import EVEN, Key, Wanted
from llava_viewer.evaluation.truth import read_truth
from llava_viewer.heads.words import phrase_tokens
from llava_viewer.store.part import StoreError
from llava_wire import encode
from llava_wire.geometry import Preprocess
from llava_wire.record import Record
from llava_wire.view import View
from shapes.scenes import Scene, make_scene
from support.runs import Made, worked

SEED, COUNT = 31, 48
CARD = Path(__file__).resolve().parents[2] / "model_store" / "llava-shapes" / "evaluation.json"
PUBLISHED = {
    ("describe, colour words", "next-object"): Key("pointing_game", "next-object", "attention", words="first"),
    ("describe, shape words", "named-object"): Key("pointing_game", "named-object", "attention", words="last"),
    ("describe, colour words", "mean of all heads"): Key("pointing_game", "mean", "attention", words="first"),
    ("describe, shape words", "mean of all heads"): Key("pointing_game", "mean", "attention", words="last"),
}
Figures = Mapping[Key, Figure]


def scenes() -> list[Scene]:
    """Two in three of them are not square, so that a crop matters."""
    source = random.Random(SEED)
    return [make_scene(source, ("square", "landscape", "portrait")[number % 3]) for number in range(COUNT)]


def png(scene: Scene) -> bytes:
    """The scene's image as a file."""
    buffer = io.BytesIO()
    scene.image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenes' files, questions about them with the boxes of what is in them, and the same boxes as COCO."""
    folder = tmp_path_factory.mktemp("scenes")
    lines, images, boxes = [], [], []
    names = sorted({thing.name for scene in scenes() for thing in scene.objects})
    for number, scene in enumerate(scenes()):
        file = f"{number}.png"
        (folder / file).write_bytes(png(scene))
        phrases = {thing.name: list(thing.box) for thing in scene.objects}
        lines.append({"id": f"s{number}", "image": file, "prompt": "Describe the image.", "boxes": phrases})
        images.append({"id": number, "file_name": file})
        for name, (x0, y0, x1, y1) in phrases.items():
            box = [x0, y0, x1 - x0, y1 - y0]
            boxes.append({"image_id": number, "category_id": names.index(name), "bbox": box})
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    coco = {"images": images, "categories": categories, "annotations": boxes}
    (folder / "coco.json").write_text(json.dumps(coco), "utf-8")
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


@pytest.fixture(scope="module")
def records(engine: Engine, data: Path) -> list[Record]:
    """The model's answers."""
    files = [(data.parent / f"{number}.png").read_bytes() for number in range(COUNT)]
    found = engine.run([GenerateRequest.build(file, "Describe the image.", {"check": []}) for file in files])
    assert all(isinstance(record, Record) for record in found)
    return [record for record in found if isinstance(record, Record)]


def stored(out: Path, data: Path, records: list[Record]) -> Path:
    """A store of these records."""
    worked(out, data, Made(data.parent, before=lambda item: encode(records[item.n])), chunk=16)
    return out


@pytest.fixture(scope="module")
def figures(data: Path, records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """What the store scores by the boxes of its data."""
    return evaluated(Wanted(stored(tmp_path_factory.mktemp("right") / "out", data, records))).figures


def test_the_figures_are_those_of_the_model_card(figures: Figures) -> None:
    card = json.loads(CARD.read_text("utf-8"))["pointing game"]["test"]
    for (group, view), key in PUBLISHED.items():
        found, published = figures[key], card[group][view]
        assert found.low is not None
        assert found.high is not None
        assert found.low <= published["value"] <= found.high, (key, found, published)
        assert found.images == COUNT
        assert found.high - found.low < 0.2


def test_coco_says_the_same(data: Path, records: list[Record], figures: Figures, tmp_path: Path) -> None:
    store = stored(tmp_path / "out", data, records)
    assert evaluated(Wanted(store, read_truth(data.parent / "coco.json"))).figures == figures


def transposed(record: Record) -> Record:
    """The record with rows and columns of every map swapped."""

    def swapped(view: View) -> View:
        maps = view.maps_float().swapaxes(-1, -2)
        return View.of(view.facts, maps.reshape(*view.lead, -1), view.shares, view.grids, view.parts)

    return replace(record, views={name: swapped(view) for name, view in record.views.items()})


def uncropped(record: Record) -> Record:
    """The record with a grid over the whole image, as if nothing had been cut away."""
    [grid] = record.grids
    steps = (replace(grid.steps[0], op="resize", width_px=96, height_px=96, left_px=0, top_px=0),)
    whole = (replace(grid, steps=steps),)
    views = {name: replace(view, grids=whole) for name, view in record.views.items()}
    return replace(record, facts=replace(record.facts, grids=whole), views=views)


@pytest.mark.parametrize("wrong", [transposed, uncropped])
def test_a_wrong_build_falls_below_the_interval(
    wrong: Callable[[Record], Record], data: Path, records: list[Record], figures: Figures, tmp_path: Path
) -> None:
    store = stored(tmp_path / "out", data, [wrong(record) for record in records])
    found = evaluated(Wanted(store)).figures
    for key in PUBLISHED.values():
        for figure in ("pointing_game", "energy_in_box", "box_iou"):
            right = figures[key._replace(figure=figure)]
            assert right.low is not None
            assert found[key._replace(figure=figure)].value < right.low, (key, figure)


def test_the_grid_of_the_wrong_build_is_another(records: list[Record]) -> None:
    landscape = records[1]
    seen = uncropped(landscape).geometry.seen_rect()
    size = landscape.facts.image
    assert np.allclose(seen, (0, 0, size.width_px, size.height_px))
    plan = Preprocess(patch_px=12, shortest_edge=96, crop=(96, 96)).plan(size.width_px, size.height_px)
    assert np.allclose(landscape.geometry.seen_rect(), plan.seen_rect())


ASKED = ("insertion", "insertion_auc", "deletion_auc", "top_alone")


@pytest.fixture(scope="module")
def asking(engine: Engine) -> Asking:
    """The model in this process, asked about a few items."""

    def replay(record: Record, options: Mapping[str, Any]) -> Record:
        [found] = engine.run([GenerateRequest.replay(record, options)])
        assert isinstance(found, Record), found
        return found

    return Asking(replay, items=4)


def asked_figures(out: Path, data: Path, records: list[Record], asking: Asking, metrics: Sequence[str]) -> Figures:
    return evaluated(Wanted(stored(out, data, records), metrics=metrics), asking=asking).figures


@pytest.fixture(scope="module")
def asked(data: Path, records: list[Record], asking: Asking, tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """What metrics that ask the model say of the right maps."""
    return asked_figures(tmp_path_factory.mktemp("asked") / "out", data, records, asking, ("pointing_game", *ASKED))


def test_metrics_that_ask_the_model_are_those_of_its_own_scorer(
    engine: Engine, data: Path, records: list[Record], asked: Figures
) -> None:
    values, controls, spots = [], [], 0
    for place in (0, 16, 31, 47):
        record, file = records[place], (data.parent / f"{place}.png").read_bytes()
        for thing in scenes()[place].objects:
            words = phrase_tokens([token.text for token in record.tokens], thing.name)
            if not words:
                continue
            spots += 1
            scorers = [engine.scorer(record, step, file) for step in words]
            chain = Chain(scorers)
            map_ = np.mean([record.map(step, view="mean") for step in words], axis=0)
            score = evaluate("deletion_auc", map_, record.geometry.patch_rects(), [thing.box], chain)
            values.append(score.value)
            controls.append(score.control)
    key = Key("deletion_auc", "mean", "attention", words="phrase")
    assert asked[key].n == spots
    assert asked[key].images == 4
    assert asked[key].value == pytest.approx(np.mean(values), abs=1e-4)
    assert asked[Key("deletion_auc", EVEN, words="phrase")].value == pytest.approx(np.mean(controls), abs=1e-4)


class Chain:
    """A phrase's probability from those of its tokens."""

    baseline = "mean embedding"

    def __init__(self, scorers: Sequence[Any]) -> None:
        self._scorers = scorers

    def log_probs(self, keep: np.ndarray) -> np.ndarray:
        """See `llava_eval.metric.Scorer`."""
        return np.sum([scorer.log_probs(keep) for scorer in self._scorers], axis=0)


@pytest.mark.parametrize("name", ASKED)
def test_right_maps_beat_random_orders(name: str, asked: Figures) -> None:
    right, chance = asked[Key(name, "mean", "attention", words="phrase")], asked[Key(name, EVEN, words="phrase")]
    assert (chance.value - right.value if name == "deletion_auc" else right.value - chance.value) > 0.05


def test_transposed_maps_keep_less(
    data: Path, records: list[Record], asking: Asking, asked: Figures, tmp_path: Path
) -> None:
    wrong = asked_figures(tmp_path / "out", data, [transposed(one) for one in records], asking, ("insertion",))
    key = Key("insertion", "mean", "attention", words="phrase")
    assert wrong[key].value < asked[key].value - 0.05


def test_without_boxes_words_that_need_the_image_are_followed(
    engine: Engine, data: Path, asking: Asking, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.jsonl"
    lines = [{"id": f"s{n}", "image": f"{n}.png", "prompt": "Describe the image."} for n in range(2)]
    plain.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    for line in lines:
        (tmp_path / line["image"]).write_bytes((data.parent / line["image"]).read_bytes())
    files = [(tmp_path / line["image"]).read_bytes() for line in lines]
    made = engine.run([GenerateRequest.build(file, "Describe the image.", {}) for file in files])
    assert all(isinstance(one, Record) for one in made)
    records = [one for one in made if isinstance(one, Record)]
    figures = asked_figures(tmp_path / "out", plain, records, asking, ("deletion_auc",))
    key = Key("deletion_auc", "mean", "attention", words="word")
    assert figures[key].n >= 4
    assert figures[key].value < figures[Key("deletion_auc", EVEN, words="word")].value - 0.05
    with pytest.raises(StoreError, match="neither boxes nor expected answers"):
        evaluated(Wanted(tmp_path / "out", metrics=("insertion",)), asking=asking)


def test_a_store_without_maps_of_words_says_so(
    engine: Engine, data: Path, records: list[Record], asking: Asking, tmp_path: Path
) -> None:
    files = [(data.parent / f"{number}.png").read_bytes() for number in range(COUNT)]
    asked = [GenerateRequest.replay(one, {"reduction": "all"}, file) for one, file in zip(records, files, strict=True)]
    whole = [one for one in engine.run(asked) if isinstance(one, Record)]
    assert len(whole) == COUNT
    with pytest.raises(StoreError, match="views: got none with a map for every word"):
        asked_figures(tmp_path / "out", data, whole, asking, ("insertion",))


def test_an_item_that_cannot_be_asked_about_is_scored_and_there(
    data: Path, records: list[Record], asking: Asking, tmp_path: Path
) -> None:
    copy = shutil.copytree(data.parent, tmp_path / "data") / data.name
    out = stored(tmp_path / "out", copy, records)
    (copy.parent / "0.png").unlink()
    result = evaluated(Wanted(out, metrics=("pointing_game", "insertion")), asking=replace(asking, items=2))
    assert [id for id, _ in result.unasked] == ["s0"]
    assert (result.answered, result.found.bad, result.found.asked) == (COUNT, [], 1)
    page = evaluation_page(result, "Evaluation", {})
    assert "the model could not be asked about 1\u00a0item" in page
    assert "could not be scored" not in page
    (out / "parts").joinpath("000000.tar").unlink()
    few = evaluated(Wanted(out, metrics=("pointing_game", "insertion")), asking=replace(asking, items=2))
    assert f"{COUNT - few.answered}\u00a0items of the run are not there yet" in evaluation_page(few, "Evaluation", {})
