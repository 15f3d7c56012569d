"""Lines of questions: what is read, and one clear sentence for everything that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from llava_viewer.heads.questions import QuestionsError, read_questions
from llava_wire import encode
from support.heads import told
from support.synthetic import make_picture

WIDE = {"image": "wide.png", "prompt": "What is there?"}
RUN = told(("A", " red", " star"), (0, 1, 2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture of 60 x 40 px, one that its EXIF turns to 40 x 60, and a run."""
    make_picture(60, 40).save(tmp_path / "wide.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    make_picture(60, 40).save(tmp_path / "turned.jpg", exif=turned)
    (tmp_path / "run.npz").write_bytes(encode(RUN))
    (tmp_path / "text.png").write_text("no image")
    return tmp_path


def lines(folder: Path, *given: object) -> Path:
    """A file of these lines; text stays as it is."""
    path = folder / "mine.jsonl"
    texts = [one if isinstance(one, str) else json.dumps(one) for one in given]
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


def test_lines_with_paths_from_their_own_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    boxes = {"red star": [1, 2, 3, 4.5], "stars": [[0, 0, 5, 5], [10, 10, 60, 40]]}
    path = lines(folder, WIDE, "", {**WIDE, "prompt": "Where?", "boxes": boxes}, {"record": "run.npz", "boxes": {}})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    (first, second, third), notes = read_questions([path])
    assert notes == []
    assert (first.where, first.image, first.boxes) == ("mine.jsonl line 1", folder / "wide.png", {})
    assert second.boxes == {"red star": ((1, 2, 3, 4.5),), "stars": ((0, 0, 5, 5), (10, 10, 60, 40))}
    assert second.digest == first.digest
    assert (third.where, third.record, third.prompt) == ("mine.jsonl line 4", folder / "run.npz", "What is there?")


def test_runs_and_folders_of_them(folder: Path) -> None:
    [one] = read_questions([folder / "run.npz"])[0]
    assert (one.where, one.record, one.digest) == ("run.npz", folder / "run.npz", "a" * 64)
    assert [other.where for other in read_questions([folder])[0]] == ["run.npz"]


def test_what_is_there_twice_counts_once(folder: Path) -> None:
    (folder / "copy.png").write_bytes((folder / "wide.png").read_bytes())
    path = lines(folder, WIDE, {**WIDE, "prompt": "Else?"}, {**WIDE, "image": "copy.png"})
    questions, notes = read_questions([path])
    assert [one.prompt for one in questions] == ["What is there?", "Else?"]
    assert notes == ["mine.jsonl line 3 is the question of mine.jsonl line 1 about the same image; it counts once"]


def test_boxes_are_of_the_upright_image(folder: Path) -> None:
    tall = {"image": "turned.jpg", "prompt": "What?", "boxes": {"star": [0, 41, 40, 60]}}
    assert read_questions([lines(folder, tall)])[0][0].boxes
    with pytest.raises(QuestionsError, match=r"expected a box on the upright image of 60 x 40 px"):
        read_questions([lines(folder, {**tall, "image": "wide.png"})])


def test_lines_of_a_dataset_run_are_read(folder: Path) -> None:
    path = lines(folder, {**WIDE, "id": "a", "expected": "A dog.", "tags": ["describe"]})
    assert [one.prompt for one in read_questions([path])[0]] == ["What is there?"]


def boxed(box: object) -> dict[str, object]:
    """The question with one box."""
    return {**WIDE, "boxes": {"red star": box}}


WRONG = [
    ("hello", "line: got 'hello', expected a JSON object"),
    ("[1, 2]", "line: got [1, 2], expected a JSON object with image, prompt, boxes, record"),
    ('{"image": "wide.png"', "line: got "),
    ("\ufffd", "line: got bytes that are no UTF-8"),
    ("[" * 100_000, "line: got "),
    ({"image": "wide.png", "promt": "x"}, "promt: got an unknown field, expected only image, prompt, boxes, record;"),
    ({"prompt": "x"}, "image: got nothing, expected the path of a file"),
    ({**WIDE, "image": ""}, "image: got '', expected the path of a file"),
    ({**WIDE, "image": "no.png"}, "image: got 'no.png', expected a file; paths count from the folder of"),
    ({**WIDE, "image": "."}, "image: got '.', expected a file"),
    ({**WIDE, "image": "text.png"}, "image: got "),
    ({"image": "wide.png"}, "prompt: got nothing, expected the question, a text"),
    ({**WIDE, "prompt": 7}, "prompt: got 7, expected the question, a text"),
    ({**WIDE, "prompt": " "}, "prompt: got ' ', expected the question, a text"),
    ({**WIDE, "boxes": [1]}, "boxes: got [1], expected an object"),
    ({**WIDE, "boxes": {"...": [1, 2, 3, 4]}}, "boxes....: got a phrase without a letter"),
    (boxed([1, 2, 3]), "boxes.red star: got [1, 2, 3], expected [x0, y0, x1, y1] in px"),
    (boxed([]), "boxes.red star: got [], expected [x0, y0, x1, y1] in px"),
    (boxed([1, 2, 3, True]), "boxes.red star: got [1, 2, 3, True], expected [x0"),
    (boxed("1 2 3 4"), "boxes.red star: got '1 2 3 4', expected [x0"),
    (boxed([1, 2, 3, float("nan")]), "boxes.red star: got [1, 2, 3, nan], expected [x0"),
    (boxed([5, 5, 2, 9]), "boxes.red star: got [5, 5, 2, 9], expected x0 < x1 and y0 < y1; a box is two corners"),
    (boxed([0.1, 0.2, 0.4, 1.0]), "expected px of the image of 60 x 40 px; multiply them"),
    (boxed([5, 5, 20, 500]), "expected a box on the upright image of 60 x 40 px"),
    (boxed([[1, 2, 3, 4], [5]]), "boxes.red star: got [5], expected [x0"),
    ('{"image": "wide.png", "prompt": "x", "boxes": {"star": [1,2,3,4], "star": [1,2,3,5]}}', "star: got it twice"),
    ({"record": "run.npz", "prompt": "x"}, "prompt: got it beside a record, which has its own"),
    ({"record": "wide.png"}, "is it a whole .npz record?"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "says"), WRONG)
def test_a_wrong_line_is_named_with_its_field_and_what_was_expected(folder: Path, line: object, says: str) -> None:
    with pytest.raises(QuestionsError) as caught:
        read_questions([lines(folder, WIDE, line)])
    assert str(caught.value).startswith("mine.jsonl line 2, ")
    assert says in str(caught.value)
    assert caught.value.problems == (str(caught.value),)


def test_all_wrong_lines_are_told_and_none_is_an_error_too(folder: Path) -> None:
    path = lines(folder, "x", WIDE, "y", "z")
    with pytest.raises(QuestionsError, match=r"^mine.jsonl line 1, .* \(3 of 4 lines are wrong\)$") as caught:
        read_questions([path])
    assert [one.split(",")[0] for one in caught.value.problems] == [f"mine.jsonl line {number}" for number in (1, 3, 4)]
    with pytest.raises(QuestionsError, match=r"mine.jsonl: got no question, expected a JSON object on each line"):
        read_questions([lines(folder, "", "  ")])
    with pytest.raises(FileNotFoundError):
        read_questions([folder / "nothing.jsonl"])
