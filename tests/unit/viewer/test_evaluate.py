"""Stores evaluated: truth of the data or of a file, figures by view, layer, head and tag, and what is written."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llava_viewer.cli import main
from llava_viewer.data.items import Item
from llava_viewer.data.kind import DataError
from llava_viewer.evaluation.page import evaluation_page
from llava_viewer.evaluation.result import evaluated
from llava_viewer.evaluation.scores import EVEN, Key, Wanted
from llava_viewer.evaluation.truth import read_truth
from llava_viewer.store import StoreError
from llava_viewer.store.many import over_parts
from llava_viewer.store.store import part_paths
from llava_wire import encode
from support.runs import Made, about_of, data_of, items_in, worked
from support.synthetic import make_record

Captured = pytest.CaptureFixture[str]
COUNT = 12
BOX = [0, 0, 32, 24]
"""The upper left quarter of an image of 64 x 48 px: four patches of a grid of 4 x 4."""


def answer(item: Item) -> bytes:
    """Says "a red circle" or, of every third image, "a blue circle", with every head of two layers."""
    words = (" a", " blue" if item.n % 3 == 2 else " red", " circle")
    record = make_record(
        width_px=64, height_px=48, grid=4, patch_px=8, words=words, prompt=item.prompt,
        reductions=("layers_heads", "none"), seed=item.n, with_picture=False,
    )  # fmt: skip
    return encode(record)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 items in parts of 5; one has no image file, every second one is tagged."""
    folder = tmp_path_factory.mktemp("evaluate")
    data = data_of(folder / "data", COUNT, missing=(3,))
    lines = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    for number, line in enumerate(lines):
        line |= {"boxes": {"red circle": BOX, "green square": BOX}, "tags": ["even"] if number % 2 == 0 else []}
    data.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    worked(folder / "out", data, Made(data.parent, before=lambda item: None if item.n == 3 else answer(item)))
    return folder / "out"


def right(numbers: list[int]) -> float:
    """How many of these items say what is expected."""
    return float(np.mean([number % 3 != 2 for number in numbers]))


def test_answers_are_counted_by_rule_and_tag(store: Path) -> None:
    figures = evaluated(Wanted(store)).figures
    answered = [number for number in range(COUNT) if number != 3]
    found = figures[Key("contains")]
    assert (found.value, found.n, found.images) == (pytest.approx(right(answered)), 11, 11)
    assert figures[Key("contains", tag="even")].value == pytest.approx(right([0, 2, 4, 6, 8, 10]))
    assert figures[Key("exact", tag="even")].n == 6


def test_maps_are_scored_where_the_answer_names_a_boxed_thing(store: Path) -> None:
    result = evaluated(Wanted(store))
    assert (result.found.phrases, result.found.errors) == (22, 1)
    assert result.found.missing == 11 + 4  # no answer holds the green square, every third one no red circle
    figures = result.figures
    even = figures[Key("energy_in_box", EVEN, words="phrase")]
    assert (even.value, even.n) == (pytest.approx(4 / 16), 7)
    assert figures[Key("enrichment", EVEN, words="first")].value == pytest.approx(1)
    # The brightest patch is the second of the diagonal for "red", in the box, and the third for "circle", outside.
    for view in ("layers_heads", "none"):
        for words, value in (("first", 1.0), ("last", 0.0)):
            assert figures[Key("pointing_game", view, "attention", words=words)].value == value
    assert figures[Key("pointing_game", "none", "attention", 1, 2, "first")].value == 1
    # The mean over heads of what is in a box is what is in the box of the mean, where all maps weigh the same.
    heads = [figures[Key("energy_in_box", "none", "attention", 1, head, "first")].value for head in range(3)]
    assert figures[Key("energy_in_box", "none", "attention", 1, None, "first")].value == pytest.approx(
        np.mean(heads), abs=1e-3
    )
    cells = {(key.layer, key.head) for key in figures if key.figure == "pointing_game" and key.view == "none"}
    assert cells == {(None, None), (0, None), (1, None), *((layer, head) for layer in (0, 1) for head in range(3))}


def test_the_boxes_of_one_phrase_are_held_against_the_whole_answer(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({f"q{number}": {"anything": BOX} for number in range(4)}), "utf-8")
    figures = evaluated(Wanted(store, read_truth(path))).figures
    assert {key.words for key in figures if key.figure == "pointing_game"} == {"answer", "phrase", "first", "last"}
    assert figures[Key("energy_in_box", EVEN, words="answer")].n == 3  # q3 has an error


def test_processes_find_what_one_finds(store: Path) -> None:
    assert list(over_parts(part_paths(store), Path.stat, workers=2)) == [path.stat() for path in part_paths(store)]


def coco(folder: Path) -> Path:
    """The same boxes as COCO has them."""
    path = folder / "coco.json"
    plain = {
        "images": [{"id": 900 + number, "file_name": f"images/{number}.png"} for number in range(COUNT)],
        "categories": [{"id": 1, "name": "red circle"}],
        "annotations": [
            {"image_id": 900 + number, "category_id": 1, "bbox": [0, 0, 32, 24]} for number in range(COUNT)
        ],
    }
    path.write_text(json.dumps(plain), "utf-8")
    return path


def test_files_of_truth_say_the_same(store: Path, tmp_path: Path) -> None:
    lines = tmp_path / "truth.jsonl"
    own = [{"id": f"q{number}", "boxes": {"red circle": BOX}} for number in range(COUNT)]
    lines.write_text("".join(json.dumps(line) + "\n" for line in own), "utf-8")
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps({f"{number}.png": {"red circle": [BOX]} for number in range(COUNT)}), "utf-8")
    found = [evaluated(Wanted(store, read_truth(path))).figures for path in (coco(tmp_path), lines, plain)]
    assert found[0] == found[1] == found[2]
    assert found[0][Key("box_iou", EVEN, words="phrase")].n == 7


def test_a_name_that_several_images_have_tells_of_none(tmp_path: Path) -> None:
    data = data_of(tmp_path / "data", 3)
    images = tmp_path / "data" / "images"
    (images / "far").mkdir()
    (images / "2.png").rename(images / "far" / "0.png")
    data.write_text(data.read_text("utf-8").replace("images/2.png", "images/far/0.png"), "utf-8")
    worked(tmp_path / "out", data, Made(data.parent))
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({f"{n}.png": {"red circle": [BOX]} for n in (0, 1)}), "utf-8")
    found = evaluated(Wanted(tmp_path / "out", read_truth(truth)))
    assert (found.found.open, found.found.named) == (2, 1)
    assert found.figures[Key("box_iou", EVEN, words="phrase")].n == 1
    assert "2\xa0items are not scored by the file" in evaluation_page(found, "x", {})
    truth.write_text(json.dumps({"images/far/0.png": {"red circle": [BOX]}}), "utf-8")
    found = evaluated(Wanted(tmp_path / "out", read_truth(truth)))
    assert (found.found.open, found.found.named) == (0, 1)


def test_several_expected_answers_come_from_a_file(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "people.jsonl"
    people = ["a red circle"] * 3 + ["blue"] * 7
    path.write_text("".join(json.dumps({"id": f"q{n}", "expected": people}) + "\n" for n in (0, 1)), "utf-8")
    figures = evaluated(Wanted(store, read_truth(path))).figures
    values = [(3 * 2 / 3 + 7) / 10] * 2 + [float(number % 3 != 2) for number in range(2, COUNT) if number != 3]
    assert figures[Key("vqa")].value == pytest.approx(np.mean(values))


def wrong_truths() -> list[tuple[Any, str]]:
    """Contents of boxes.json, and what is said of them."""
    return [
        ({"nothing": {"red circle": BOX}}, "the file names none of its items"),
        ({"q1": {"red circle": [5, 5, 5, 9]}}, r"boxes.json, q1, boxes.red circle: got \[5, 5, 5, 9\]"),
        ({}, "got no boxes and no expected answer"),
    ]


@pytest.mark.parametrize(("plain", "said"), wrong_truths())
def test_truth_that_cannot_be_is_refused(plain: Any, said: str, tmp_path: Path) -> None:
    data = data_of(tmp_path / "data", 2)
    data.write_text(data.read_text("utf-8").replace('"answer"', '"other"'), "utf-8")
    worked(tmp_path / "out", data, Made(data.parent))
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(plain), "utf-8")
    with pytest.raises((DataError, StoreError), match=said):
        evaluated(Wanted(tmp_path / "out", read_truth(path)))


def test_a_store_of_which_nothing_is_known_is_refused(tmp_path: Path) -> None:
    data = data_of(tmp_path / "data", 2)
    data.write_text(data.read_text("utf-8").replace('"answer"', '"other"'), "utf-8")
    worked(tmp_path / "out", data, Made(data.parent))
    with pytest.raises(StoreError, match="its data has none"):
        evaluated(Wanted(tmp_path / "out"))
    assert about_of(data, items_in(data)).items == 2


def test_a_damaged_record_is_told_and_stops_nothing(store: Path, tmp_path: Path) -> None:
    data = data_of(tmp_path / "data", 3)
    broken = b"PK\x03\x04" + bytes(600)
    worked(tmp_path / "out", data, Made(data.parent))
    part = tmp_path / "out" / "parts" / "000000.tar"
    content = part.read_bytes()
    at = content.index(b"PK\x03\x04")
    part.write_bytes(content[:at] + broken[:64] + content[at + 64 :])
    truth = tmp_path / "boxes.json"
    truth.write_text(json.dumps({f"q{number}": {"red circle": BOX} for number in range(3)}), "utf-8")
    result = evaluated(Wanted(tmp_path / "out", read_truth(truth)))
    assert [id for id, _ in result.bad] == ["q2"]  # the first that was answered: `Made` answers in reverse
    assert len(result.found.cases) == 2


def test_the_command_writes_figures_a_page_and_reports(store: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "scores"
    assert main(["evaluate", str(store), "-o", str(out), "--rule", "contains", "--reports", "2"]) == 0
    said, told = capsys.readouterr()
    assert f"{out / 'index.html'}" in said
    assert "contains" in said
    reports = len(list(out.glob("worst-*.html")))
    assert f"wrote {reports} reports of the worst cases: {out}/worst-*.html\n" in told.replace("\xa0", " ")
    assert told.count("wrote ") == 4, "with the page, the figures and the JSON"
    with (out / "figures.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    plain = json.loads((out / "evaluation.json").read_text("utf-8"))
    assert len(rows) == len(plain["figures"])
    [row] = [row for row in rows if row["figure"] == "contains" and not row["tag"]]
    assert (row["n"], row["images"]) == ("11", "11")
    assert float(row["low_95"]) < float(row["value"]) < float(row["high_95"])
    page = (out / "index.html").read_text("utf-8")
    wrong = [case["id"] for case in plain["wrong"]]
    assert sorted(wrong) == ["q11", "q2", "q5", "q8"]
    assert page.count('href="./worst-') >= 2
    report = (out / "worst-01.html").read_text("utf-8")
    assert report.startswith("<!doctype html>")
    assert "<dd>wrong; expected “a red circle”</dd>" in report
    assert "llava-viewer render .::q" in page
    assert "layer 1, head 2" in page
    # Written again, and never over something else.
    assert main(["evaluate", str(store), "-o", str(out), "--reports", "0"]) == 0
    (out / "figures.csv").write_text("mine", "utf-8")
    assert main(["evaluate", str(store), "-o", str(out)]) == 2
    assert (out / "figures.csv").read_text("utf-8") == "mine"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["--metric", "insertion", "--engine", "x", "--model", "y"], "--model: got it beside --engine"),
        (["--metric", "insertion", "--device", "cpu"], "--device: got it without --engine"),
        (["--engine", "x"], "--engine: got it with metrics of maps alone"),
        (["--url", "http://127.0.0.1:1"], "--url: got it with metrics of maps alone"),
    ],
)
def test_a_model_that_no_metric_asks_and_the_reverse_are_refused(
    wanted: list[str], said: str, store: Path, capsys: Captured
) -> None:
    assert main(["evaluate", str(store), *wanted]) == 2
    assert said in capsys.readouterr().err
    assert not (store / "evaluation").exists()


def test_missing_phrases_are_named(store: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"q1": {"green star": [0, 0, 9, 9], "red circle": [0, 0, 9, 9]}}), "utf-8")
    found = evaluated(Wanted(store, read_truth(truth)))
    assert ("q1", "green star") in found.found.lost
    assert "“green star” of q1" in evaluation_page(found, "x", {})


def test_right_answers_that_read_more_of_the_image_are_noticed(tmp_path: Path) -> None:
    data = data_of(tmp_path / "data", 40)

    def shares(item: Item) -> bytes:
        blue = item.n % 4 == 0
        record = make_record(
            width_px=64, height_px=48, grid=4, patch_px=8, words=(" a", " blue" if blue else " red", " circle"),
            prompt=item.prompt, reductions=("layers_heads",), seed=item.n, with_picture=False,
            image_share=0.1 if blue else 0.6,
        )  # fmt: skip
        return encode(record)

    worked(tmp_path / "out", data, Made(data.parent, before=shares))
    [found] = evaluated(Wanted(tmp_path / "out"), "contains").by_share
    assert found.auroc is not None
    assert found.auroc.value == 1
    assert sum(part.accuracy.n for part in found.bins) == 40
    assert found.bins[0].accuracy.value < found.bins[-1].accuracy.value == 1


def test_truth_of_other_images_is_no_truth(store: Path, tmp_path: Path) -> None:
    """A COCO file's ids are its own numbers, and an id that comes with another image is another item's."""
    lines = [
        {"id": f"q{n}", "image": f"images/{COUNT - 1 - n}.png", "boxes": {"red circle": BOX}} for n in range(COUNT)
    ]
    path = tmp_path / "shifted.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    truth = read_truth(path)
    for n in range(COUNT):
        row = {"id": f"q{n}", "image": f"images/{n}.png"}
        assert truth.found(row) is truth.by_name[f"images/{n}.png"]
    images = [{"id": n, "file_name": f"{COUNT - 1 - n}.png"} for n in range(COUNT)]
    annotations = [{"image_id": 0, "category_id": 1, "bbox": [0, 0, 8, 8]}]
    plain = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "coco.json").write_text(json.dumps(plain), "utf-8")
    truth = read_truth(tmp_path / "coco.json")
    assert truth.found({"id": "0", "image": "0.png"}) is None
    assert truth.found({"id": "5", "image": f"{COUNT - 1}.png"}) is not None
    (tmp_path / "nobody.json").write_text(json.dumps({"zzz": {"a": BOX}}), "utf-8")
    with pytest.raises(StoreError, match="the file names none of its items by id or image"):
        evaluated(Wanted(store, truth=read_truth(tmp_path / "nobody.json")))


@pytest.mark.parametrize("box", [[9000, 9000, 9999, 9999], [0.1, 0.1, 0.6, 0.9]])
def test_boxes_that_no_patch_can_point_at_are_told(box: list[float], store: Path, tmp_path: Path) -> None:
    (tmp_path / "far.json").write_text(json.dumps({"q0": {"red circle": box}}), "utf-8")
    found = evaluated(Wanted(store, truth=read_truth(tmp_path / "far.json"))).found
    [(item, reason)] = found.bad
    assert item == "q0"
    assert "expected px inside the image of 64 x 48 px; correct the truth" in reason


def test_a_map_without_an_energy_is_no_reason_to_end(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    assert main(["evaluate", str(store), "--metric", "pointing_game", "-o", str(out), "--reports", "0"]) == 0
    assert "pointing 0.00" in (out / "index.html").read_text("utf-8")


def test_a_name_that_comes_twice_in_one_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.json"
    path.write_text('{"q0": {"a": [0, 0, 2, 2]}, "q0": {"b": [0, 0, 2, 2]}}', "utf-8")
    with pytest.raises(DataError, match="'q0' comes twice in one object"):
        read_truth(path)
