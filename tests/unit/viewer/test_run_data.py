"""Data of runs as people have it: what each kind of file means, what is guessed, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from llava_viewer.data.items import Item, items_of
from llava_viewer.data.kind import DataError
from llava_viewer.data.reading import read_data
from support.synthetic import make_picture

ROWS: list[dict[str, Any]] = [
    {"question_id": 7, "img": "a.png", "question": "What?", "answer": "a cat", "boxes": {"cat": [1, 2, 30, 40]}},
    {"question_id": 8, "img": "b.png", "question": "Where?", "answer": None, "boxes": None},
]


def items(path: Path, *prompts: str, **columns: str) -> list[Item]:
    """The items of a file."""
    return items_of(read_data(path, columns).entries, prompts)


def written(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    """The rows as the kind of file that the name says."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        flat = [{**row, "boxes": row["boxes"] and json.dumps(row["boxes"])} for row in rows]
        parquet.write_table(arrow.Table.from_pylist(flat), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows({**row, "boxes": row["boxes"] and json.dumps(row["boxes"])} for row in rows)
    return path


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
def test_every_kind_of_table_says_the_same(tmp_path: Path, ending: str) -> None:
    path = written(tmp_path / f"data.{ending}")
    assert read_data(path, {}).columns == {
        "image": "img", "prompt": "question", "id": "question_id", "expected": "answer", "boxes": "boxes",
    }  # fmt: skip
    assert items(path) == [
        Item(0, "7", "a.png", "What?", "a cat", {"cat": [[1.0, 2.0, 30.0, 40.0]]}),
        Item(1, "8", "b.png", "Where?"),
    ]


def test_columns_are_named_or_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "data.jsonl")
    assert [item.id for item in items(path, id="")] == ["a.png", "b.png"]
    assert items(path, "usual?", prompt="")[0].prompt == "usual?"
    with pytest.raises(DataError, match=r"--column prompt: got 'questions', expected one of .*did you mean 'question'"):
        read_data(path, {"prompt": "questions"})
    with pytest.raises(DataError, match="image: got the columns x, expected one with the paths of images"):
        read_data(written(tmp_path / "other.jsonl", [{"x": 1}]), {})


def test_several_prompts_are_several_items(tmp_path: Path) -> None:
    path = written(tmp_path / "data.jsonl", [{"image": "a.png", "prompts": ["one?", "two?"]}, {"image": "b.png"}])
    found = items(path, "usual?", "other?")
    assert [(item.id, item.prompt) for item in found] == [
        ("a.png", "one?"), ("a.png#1", "two?"), ("b.png", "usual?"), ("b.png#1", "other?"),
    ]  # fmt: skip


def test_an_image_that_comes_again_has_another_id(tmp_path: Path) -> None:
    path = written(
        tmp_path / "data.jsonl", [{"image": "a.png", "prompt": "one?"}, {"image": "a.png", "prompt": "two?"}]
    )
    assert [item.id for item in items(path)] == ["a.png", "a.png#1"]


def test_a_coco_file_brings_its_boxes(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    make_picture(64, 48).save(tmp_path / "images" / "a.jpg")
    coco = {
        "images": [{"id": 4, "file_name": "a.jpg"}, {"id": 5, "file_name": "b.jpg"}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"image_id": 4, "category_id": 1, "bbox": [10, 20, 5, 6]},
            {"image_id": 4, "category_id": 1, "bbox": [30, 20, 5, 6]},
            {"image_id": 4, "category_id": 2, "bbox": [0, 0, 9, 9], "iscrowd": 1},
            {"image_id": 5, "category_id": 2, "bbox": [1, 1, 0, 6]},
        ],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(coco), encoding="utf-8")
    data = read_data(path, {})
    assert data.images == tmp_path / "images"
    assert data.kind == "a COCO file (boxes without area, left out: 1)"
    first, second = items_of(data.entries, ["What is it?"])
    assert first == Item(0, "4", "a.jpg", "What is it?", "", {"cat": [[10, 20, 15, 26], [30, 20, 35, 26]]})
    assert (second.id, second.boxes) == ("5", None)
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match=r"instances\.json: got \[\], expected a COCO file"):
        read_data(path, {})


def test_a_folder_of_images_needs_a_prompt(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "deep/a.JPG", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [item.image for item in items(tmp_path, "What?")] == ["b.png", "deep/a.JPG"]
    with pytest.raises(DataError, match=r"b\.png, prompt: got nothing, expected a question.*--prompt"):
        items(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 1: got '{', expected a JSON object"),
        ('{"image": 3, "prompt": "?a"}', "line 1, image: got 3, expected the path of a file"),
        ('{"image": {"bytes": null, "path": "a"}, "prompt": "?a"}', "line 1, image: got {'bytes': None"),
        ('{"image": "a", "prompt": " "}', "line 1, prompt: got ' ', expected a question"),
        ('{"image": "a", "prompt": "?a", "id": "x::y"}', "line 1, id: got 'x::y', expected no ::"),
        ('{"image": "a", "prompt": "?a", "boxes": {"cat": [5, 1, 2, 3]}}', r"boxes\.cat: got \[5, 1, 2, 3\], expected"),
        ('{"image": "a", "prompt": "?a", "tags": 3}', "line 1, tags: got 3"),
        (r'{"image": "a", "prompt": "?a", "tags": ["\ud800x"]}', "line 1, tags: got .*half a character"),
        (r'{"image": "a", "prompt": "?\udc00"}', "line 1, prompt: got .*half a character"),
        (r'{"image": "a", "prompt": "?a", "expected": "\ud800"}', "line 1, expected: got .*half a character"),
        (r'{"image": "a", "prompt": "?a", "boxes": {"\ud800": [1, 1, 3, 3]}}', "line 1, boxes: got .*half a character"),
        (r'{"image": "\ud800", "prompt": "?a"}', "line 1, id: got .*expected no ::"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        items(path)


def test_a_column_that_comes_late_is_found(tmp_path: Path) -> None:
    lines = [{"image": f"{n}.png", "prompt": "What?"} for n in range(300)]
    lines[-1]["expected"] = "a cat"
    path = tmp_path / "late.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    data = read_data(path, {}, None)
    assert items_of(data.entries, [])[-1].expected == "a cat"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", '{"image": "a"}'.encode("utf-16"), "a.jsonl: got bytes that are no UTF-8"),
        ("a.csv", "image,prompt\n\xff,x\n".encode("latin-1"), "a.csv: got bytes that are no UTF-8"),
        (
            "a.json",
            b'{"images": [{"id": [1], "file_name": "a.png"}]}',
            "a.json, images, id: got [1], expected a number",
        ),
        ("b.jsonl", b'{"image": "a", "prompt": "b", "expected": " "}', "expected: got white space alone"),
        ("c.jsonl", b'{"image": "a", "prompt": "b", "boxes": {"c": [0, 0, 1' + b"0" * 400 + b", 3]}}", "boxes.c: got"),
    ],
)
def test_files_that_cannot_be_are_named(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as refused:
        items_of(read_data(tmp_path / name, {}, None).entries, [])
    assert says in str(refused.value)


def test_a_tag_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "tags.jsonl"
    path.write_text('{"image": "a", "prompt": "b", "tags": ["t", "t", "u"]}', "utf-8")
    assert items_of(read_data(path, {}, None).entries, [])[0].tags == ("t", "u")
