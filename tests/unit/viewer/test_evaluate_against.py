"""Two runs over the same images held against each other: differences, changed answers, and what cannot be compared."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from llava_eval.tally import Tally
from llava_viewer.cli import main
from llava_viewer.data.items import Item
from llava_viewer.evaluation.against import Against, held_against
from llava_viewer.evaluation.page import evaluation_page
from llava_viewer.evaluation.result import evaluated
from llava_viewer.evaluation.scores import Key, Wanted
from llava_viewer.evaluation.views import paired
from llava_viewer.store import StoreError
from llava_wire import encode
from support.runs import Made, data_of, worked
from support.synthetic import make_record

COUNT = 12
BOX = [0, 0, 32, 24]
Captured = pytest.CaptureFixture[str]


def says(right: Callable[[int], bool], *, seeds: int = 0, share: float = 0.4) -> Callable[[Item], bytes]:
    """Answers "a red circle" where it is right, else "a blue circle"."""

    def answer(item: Item) -> bytes:
        words = (" a", " red" if right(item.n) else " blue", " circle")
        record = make_record(
            width_px=64, height_px=48, grid=4, patch_px=8, words=words, prompt=item.prompt, seed=item.n + seeds,
            image_share=share * (1 + item.n / 50), reductions=("layers_heads", "none"), with_picture=False,
        )  # fmt: skip
        return encode(record)

    return answer


def run_of(folder: Path, data: Path, answer: Callable[[Item], bytes]) -> Path:
    worked(folder, data, Made(data.parent, before=answer))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = data_of(tmp_path_factory.mktemp("data"), COUNT)
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for number, line in enumerate(lines):
        line |= {"boxes": {"circle": BOX}, "tags": ["even"] if number % 2 == 0 else []}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


@pytest.fixture(scope="module")
def one(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Right but for every third item."""
    return run_of(tmp_path_factory.mktemp("one") / "out", data, says(lambda n: n % 3 != 2))


@pytest.fixture(scope="module")
def other(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Right at every second item, its attention more on the image."""
    return run_of(tmp_path_factory.mktemp("other") / "other", data, says(lambda n: n % 2 == 0, share=0.7))


@pytest.fixture(scope="module")
def against(one: Path, other: Path) -> Against:
    return held_against(evaluated(Wanted(one), "contains"), evaluated(Wanted(other), "contains"))


def test_items_are_counted_by_who_is_right(against: Against) -> None:
    here, there = {n for n in range(COUNT) if n % 3 != 2}, {n for n in range(COUNT) if n % 2 == 0}
    assert (against.images, against.items) == (COUNT, COUNT)
    assert (against.both_right, against.only_here) == (len(here & there), len(here - there))
    assert (against.only_there, against.neither) == (len(there - here), COUNT - len(here | there))
    assert [change.id for change in against.better] == [f"q{n}" for n in sorted(here - there)]
    assert [change.id for change in against.worse] == [f"q{n}" for n in sorted(there - here)]
    assert (against.worse[0].answer, against.worse[0].other_answer) == ("a blue circle", "a red circle")


def test_figures_of_both_are_told_with_their_difference(against: Against) -> None:
    found = against.differences[Key("contains")]
    assert (found.one, found.other, found.value) == (pytest.approx(8 / 12), 0.5, pytest.approx(1 / 6))
    assert found.images == COUNT
    share = against.differences[Key("image_share", "layers_heads")]
    assert share.value == pytest.approx(-0.3 * (1 + 5.5 / 50), abs=1e-3)
    assert share.told_apart
    assert Key("pointing_game", "none", "attention", 1, 2, "phrase") in against.differences
    assert Key("contains", tag="even") in against.differences
    assert not [key for key in against.differences if key.view == "even map"], "chance is nobody's"


def test_a_run_against_its_like_differs_in_nothing(one: Path, data: Path, tmp_path: Path) -> None:
    again = run_of(tmp_path / "again", data, says(lambda n: n % 3 != 2))
    found = held_against(evaluated(Wanted(one)), evaluated(Wanted(again)))
    assert {(each.value, each.told_apart) for each in found.differences.values()} == {(0, False)}
    assert (found.differing, found.only_here, found.only_there) == ([], 0, 0)
    page = evaluation_page(found.result, "Alike", {}, found)
    assert "higher here" not in page
    assert "They differ" not in page


def test_the_command_writes_differences_beside_the_evaluation(
    one: Path, other: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["evaluate", str(one), "--against", str(other), "--rule", "contains", "--reports", "0"]) == 0
    said = capsys.readouterr().out
    assert f"against {other}: 12 items of both\n" in said
    assert "right in both 4, right here alone 4, right there alone 2, wrong in both 2\n" in said
    assert "image_share [none]" in said
    assert "0.444 and 0.777: \N{MINUS SIGN}0.333 (\N{MINUS SIGN}0." in said
    out = one / "evaluation-against-other"
    with (out / "differences.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    plain = json.loads((out / "evaluation.json").read_text("utf-8"))["against"]
    assert len(rows) == len(plain["differences"])
    [row] = [row for row in rows if row["figure"] == "contains" and not row["tag"]]
    assert (row["this"], row["other"], row["images"]) == ("0.666667", "0.5", "12")
    assert float(row["low_95"]) < float(row["difference"]) < float(row["high_95"])
    assert plain["items"] == {"of_both": 12, "both_right": 4, "only_here": 4, "only_there": 2, "neither": 2}
    page = (out / "index.html").read_text("utf-8")
    there = os.path.relpath(other, one)
    assert f"llava-viewer compare .::q1 {there}::q1 -o comparison.html" in page
    assert f"<h1>{one} against {other}</h1>" in page
    assert "4 answers right in" in page.replace("\xa0", " ")
    assert "lower here" in page
    assert main(["evaluate", str(one), "--against", str(other), "--reports", "0"]) == 0, "written again"
    monkeypatch.chdir(one)
    assert main(["compare", ".::q1", f"{there}::q1", "-o", str(out / "comparison.html")]) == 0, "as it is printed"


def test_what_tells_the_runs_apart_is_named(one: Path, data: Path, tmp_path: Path) -> None:
    path = data.with_name("asked.jsonl")
    lines = [json.loads(line) | {"prompt": "Say what it is."} for line in data.read_text("utf-8").splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    found = held_against(
        evaluated(Wanted(one)), evaluated(Wanted(run_of(tmp_path / "out", path, says(lambda n: True))))
    )
    assert found.differing == ["prompts"]


def test_other_images_are_refused(one: Path, data: Path, tmp_path: Path) -> None:
    other = run_of(tmp_path / "other", data, says(lambda n: True, seeds=100))
    with pytest.raises(StoreError, match=r"--against: got .*, whose images/0\.png is another image than this run's"):
        held_against(evaluated(Wanted(one)), evaluated(Wanted(other)))
    lines = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    (data.parent / "copies").mkdir(exist_ok=True)
    for line in lines:
        copy = f"copies/{Path(line['image']).name}"
        (data.parent / copy).write_bytes((data.parent / line["image"]).read_bytes())
        line["image"] = copy
    path = data.with_name("copied.jsonl")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    elsewhere = run_of(tmp_path / "elsewhere", path, says(lambda n: True))
    with pytest.raises(StoreError, match=r"which has no image of this run \(images/0\.png here, copies/0\.png there\)"):
        held_against(evaluated(Wanted(one)), evaluated(Wanted(elsewhere)))


def test_what_cannot_be_compared_is_refused_before_anything_is_read(
    one: Path, other: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert main(["evaluate", str(one), "--against", str(one)]) == 2
    assert "the run itself, expected another one" in capsys.readouterr().err
    assert main(["evaluate", str(one), "--against", str(tmp_path)]) == 1
    assert "expected the folder of a run" in capsys.readouterr().err
    wanted = ["--metric", "insertion", "--engine", "llava-things"]
    assert main(["evaluate", str(one), "--against", str(other), *wanted]) == 2
    assert "--against: got it with insertion, which asks the model" in capsys.readouterr().err


def test_views_of_other_names_are_paired_and_what_one_run_alone_has_is_told(
    one: Path, data: Path, tmp_path: Path
) -> None:
    def selection(item: Item) -> bytes:
        return encode(make_record(
            width_px=64, height_px=48, grid=4, patch_px=8, words=(" a", " red", " circle"), prompt=item.prompt,
            seed=item.n, reductions=("heads",), with_picture=False,
        ))  # fmt: skip

    result, other = evaluated(Wanted(one)), evaluated(Wanted(run_of(tmp_path / "out", data, selection)))
    found = held_against(result, other)
    assert found.aside == [
        "views that one run alone has are left out (here layers_heads, none; there heads), unless --pair names them"
    ]
    assert {key.view for key in found.differences} == {""}
    found = held_against(result, other, {"layers_heads": "heads"})
    share = found.differences[Key("image_share", "layers_heads / heads")]
    whole = [
        each.figures[Key("image_share", view)].value for each, view in ((result, "layers_heads"), (other, "heads"))
    ]
    assert [share.one, share.other] == pytest.approx(whole)
    with pytest.raises(StoreError, match="--pair: got mean=heads, but this run has no view 'mean', expected one of "):
        held_against(result, other, {"mean": "heads"})
    assert main(["evaluate", str(one), "--pair", "mean=heads"]) == 2


def test_views_of_one_name_and_the_last_two_are_held_against_each_other_whatever_their_method() -> None:
    def run(**methods: str) -> Tally[Key]:
        tally = Tally[Key]()
        for view, method in methods.items():
            tally.add(Key("image_share", view), "a.png", 0.5)
            tally.add(Key("pointing_game", view, method), "a.png", float(len(method)))
        return tally

    def keys(one: Tally[Key], other: Tally[Key]) -> set[tuple[str, str]]:
        views = paired(one, other, {})
        return {key[1:3] for key in views.one.against(views.other) if key.figure == "pointing_game"}

    attention = run(mean="attention", why="attention")
    assert keys(attention, run(mean="rollout")) == {("mean", "attention / rollout")}
    assert keys(attention, run(mean="attention", way="rollout")) == {
        ("mean", "attention"), ("why / way", "attention / rollout"),
    }  # fmt: skip
    assert keys(run(mean="attention"), run(selection="rollout")) == {("mean / selection", "attention / rollout")}
    assert keys(attention, run(selection="rollout")) == set()


def test_other_truth_and_items_of_one_run_alone_are_told(one: Path, data: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    lines[1]["answer"], lines[2]["boxes"] = "a green circle", {"circle": [0, 0, 16, 16]}
    lines[3]["id"] = "another"
    lines[5]["image"] = "images/none.png"
    path = data.with_name("told.jsonl")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")

    def answer(item: Item) -> bytes | Exception:
        return OSError("no file") if item.n == 5 else says(lambda n: True)(item)

    worked(tmp_path / "out", path, Made(data.parent, before=answer))
    found = held_against(evaluated(Wanted(one)), evaluated(Wanted(tmp_path / "out")))
    assert found.differing == ["expected answers", "boxes"]
    assert found.aside == [
        "2 of 12 scored items are here alone",
        "there 1 of 12 items have no answer, 1 have an error",
        "1 of 11 scored items are there alone",
    ]


def test_runs_with_other_grids_or_questions_are_shown_one_by_one(one: Path, data: Path, tmp_path: Path) -> None:
    def finer(item: Item) -> bytes:
        return encode(make_record(
            width_px=64, height_px=48, grid=8, patch_px=4, words=(" a", " blue", " circle"), prompt=item.prompt,
            seed=item.n, reductions=("layers_heads",), with_picture=False,
        ))  # fmt: skip

    path = data.with_name("others.jsonl")
    lines = [json.loads(line) | {"prompt": "Say what it is."} for line in data.read_text("utf-8").splitlines()]
    path.write_text("".join(json.dumps(line | {"answer": "a disc"}) + "\n" for line in lines), "utf-8")
    result, other = (evaluated(Wanted(each)) for each in (one, run_of(tmp_path / "finer", path, finer)))
    found = held_against(result, other)
    assert not found.one_grid
    page = evaluation_page(result, "Two", {}, found)
    assert "llava-viewer compare" not in page
    assert "llava-viewer render .::q0 -o here.html" in page
    assert f"llava-viewer render {os.path.relpath(tmp_path / 'finer', one)}::q0 -o there.html" in page
    assert "asked “<bdi>Say what it is.</bdi>”: <i><bdi>a blue circle</bdi></i>, expected “<bdi>a disc</bdi>”" in page


def test_things_are_compared_that_both_answers_name(data: Path, tmp_path: Path) -> None:
    """Of two runs with the same maps, one that names more things is neither better nor worse."""
    path = data.with_name("two.jsonl")
    lines = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    boxes = {"circle": BOX, "star": [32, 24, 64, 48]}
    path.write_text("".join(json.dumps(line | {"boxes": boxes}) + "\n" for line in lines), "utf-8")

    def names(*words: str) -> Callable[[Item], bytes]:
        def answer(item: Item) -> bytes:
            return encode(make_record(
                width_px=64, height_px=48, grid=4, patch_px=8, words=words, prompt=item.prompt, seed=item.n,
                reductions=("layers_heads",), with_picture=False,
            ))  # fmt: skip

        return answer

    both = run_of(tmp_path / "both", path, names(" a", " circle", " star"))
    less = run_of(tmp_path / "less", path, names(" a", " circle", " thing"))
    found = held_against(evaluated(Wanted(both)), evaluated(Wanted(less)))
    score = found.differences[Key("pointing_game", "layers_heads", "attention", words="phrase")]
    assert (score.value, score.n, score.other_n) == (0, COUNT, COUNT)
    assert found.result.figures[Key("pointing_game", "layers_heads", "attention", words="phrase")].n == 2 * COUNT
