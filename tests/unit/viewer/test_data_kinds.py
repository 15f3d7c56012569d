"""Data whose images are inside files: WebDataset's tars, Hugging Face's folders, Parquet; and folders of either."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llava_viewer.cli import main
from llava_viewer.data.images import image_bytes, image_name
from llava_viewer.data.items import items_of
from llava_viewer.data.kind import KINDS, DataError, inside
from llava_viewer.data.kinds import parquet as parquet_kind
from llava_viewer.data.reading import read_data
from llava_viewer.evaluation.truth import read_truth
from llava_viewer.store import Store
from support.data_kinds import found, png, sample, tar_of
from support.installed import installed
from support.runs import Made, worked
from support.toy_data import pack_of

SAVED = Path(__file__).parents[2] / "data" / "hugging_face"
"""Made by `python -m upkeep.make_data_sets`, that is, by the package `datasets` itself."""
COLOURS = ("red", "green", "blue", "yellow", "white")


@pytest.mark.parametrize("form", ["saved", "hub"])
def test_what_datasets_wrote_is_read(form: str) -> None:
    splits = ["train"] * 5 + ["test"] * 2
    before = "" if form == "saved" else "data/"
    items, images = found(SAVED / form)
    assert sorted(item.id for item in items) == sorted(
        f"{before}{split}/{n if split == 'train' else n - 5}" for n, split in enumerate(splits)
    )
    for item, image in zip(items, images, strict=True):
        n = int(item.prompt.removeprefix("What colour is square ").removesuffix("?"))
        assert item.expected == COLOURS[n % 5]
        assert item.tags == (("right",) if 4 + 5 * n > 16 else ("left",))
        assert image_name(item.image) == f"scene-{n}.png"
        [box] = item.boxes[item.expected] if item.boxes else [[]]
        with Image.open(io.BytesIO(image)) as picture:
            assert picture.getpixel((int(box[0]) + 1, 12)) == Image.new("RGB", (1, 1), item.expected).getpixel((0, 0))


def test_one_split_has_plain_numbers(tmp_path: Path) -> None:
    assert [item.id for item in found(SAVED / "saved" / "train")[0]] == ["0", "1", "2", "3", "4"]
    assert [item.id for item in found(SAVED / "hub" / "data" / "test-00000-of-00001.parquet")[0]] == ["0", "1"]
    assert found(SAVED / "saved" / "test", "What?", prompt="")[0][0].prompt == "What?"
    assert found(SAVED / "saved" / "test", id="")[0][0].id == "data-00000-of-00001.arrow/picture/scene-5.png@0"
    # The folder of images may be another one: places count from it.
    data = read_data(SAVED / "saved" / "test", {}, tmp_path)
    [first, _] = items_of(data.entries, [])
    assert image_bytes(data.images, first.image).startswith(b"\x89PNG")


def test_a_saved_folder_that_is_not_whole_is_told(tmp_path: Path) -> None:
    shutil.copytree(SAVED / "saved", tmp_path / "set")
    (tmp_path / "set" / "train" / "data-00001-of-00002.arrow").write_bytes(b"no arrow")
    with pytest.raises(DataError, match=r"data-00001-of-00002\.arrow: got .*, expected an Arrow file"):
        found(tmp_path / "set")
    whole = (SAVED / "saved" / "train" / "data-00000-of-00002.arrow").read_bytes()
    (tmp_path / "set" / "train" / "data-00001-of-00002.arrow").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"data-00001-of-00002\.arrow: got .*, expected an Arrow file"):
        found(tmp_path / "set")
    (tmp_path / "set" / "train" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match=r"train/state\.json: got 'data-00001-of-00002\.arrow', expected a file beside"):
        found(tmp_path / "set")
    (tmp_path / "set" / "train" / "state.json").write_text("{", "utf-8")
    with pytest.raises(DataError, match=r"state\.json: got no JSON"):
        found(tmp_path / "set")


def parquet_of(path: Path, rows: Sequence[Mapping[str, Any]], group: int = 2, kind: Any = None) -> Path:
    """A Parquet file with groups of a few rows."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    schema = arrow.schema([("image", kind or arrow.binary()), ("question", arrow.string())])
    parquet.write_table(arrow.Table.from_pylist(list(rows), schema=schema), path, row_group_size=group)
    return path


def test_a_column_of_bytes_is_a_column_of_images(tmp_path: Path) -> None:
    path = parquet_of(tmp_path / "a.parquet", [{"image": png(n), "question": f"{n}?"} for n in range(5)])
    items, images = found(path)
    assert [item.image for item in items] == [f"a.parquet::image@{n}" for n in range(5)]
    assert [item.id for item in items] == ["0", "1", "2", "3", "4"]
    assert images == [png(n) for n in range(5)]
    with pytest.raises(OSError, match=r"no row 7 in a\.parquet"):
        image_bytes(tmp_path, inside("a.parquet", "image", 7))
    with pytest.raises(OSError, match=r"no column of images 'other' in a\.parquet"):
        image_bytes(tmp_path, inside("a.parquet", "other", 0))


def test_a_column_called_image_is_meant_before_bytes_of_another_name(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "a.png").write_bytes(png(1))
    rows = [{"image": "a.png", "thumb": png(2), "question": "?a"}]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert found(tmp_path / "a.parquet")[1] == [png(1)]
    assert found(tmp_path / "a.parquet", image="thumb")[1] == [png(2)]


def test_structs_without_bytes_are_paths(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    for n in (1, 4):
        (tmp_path / f"{n}.png").write_bytes(png(n))
    held = [{"bytes": png(n), "path": f"there/{n}.png"} for n in range(5)]
    rows = [
        {"image": {"bytes": None, "path": f"{n}.png"} if n in (1, 4) else held[n], "question": "?a"} for n in range(5)
    ]
    path = parquet_of(tmp_path / "a.parquet", rows, kind=kind)
    items, images = found(path)
    assert [item.image for item in items] == [
        "a.parquet::image/0.png@0", "1.png", "a.parquet::image/2.png@2", "a.parquet::image/3.png@3", "4.png",
    ]  # fmt: skip
    assert images == [png(n) for n in range(5)]
    path = parquet_of(tmp_path / "b.parquet", [{"image": None, "question": "?a"}], kind=kind)
    with pytest.raises(DataError, match=r"b\.parquet row 0, image: got nothing"):
        found(path)


def test_groups_too_large_to_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet_of(tmp_path / "a.parquet", [{"image": png(n), "question": "?a"} for n in range(4)], group=4)
    monkeypatch.setattr(parquet_kind, "MOST_TOGETHER_BYTES", 100)
    with pytest.raises(DataError, match=r"a\.parquet, image: got .* in one group of 4 rows, expected up to 100"):
        found(path)


def test_a_folder_is_of_one_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"got a folder without images and shards, expected one of: .*WebDataset"):
        found(tmp_path, "What?")
    tar_of(tmp_path / "a.tar", sample(0))
    parquet_of(tmp_path / "b.parquet", [{"image": png(0), "question": "?a"}])
    with pytest.raises(DataError, match="got what may be parquet or webdataset, expected one kind"):
        found(tmp_path, "What?")
    (tmp_path / "a.png").write_bytes(png(0))
    assert [item.image for item in found(tmp_path, "What?")[0]] == ["a.png"]
    with pytest.raises(DataError, match="--column: got it for a folder of images, which has no columns"):
        found(tmp_path, "What?", prompt="x")


def test_a_file_that_is_called_like_a_place_is_a_file(tmp_path: Path) -> None:
    name = inside("a.tar", "b", 3)
    (tmp_path / name).write_bytes(png(0))
    assert image_bytes(tmp_path, name) == png(0)


def test_truth_by_the_name_of_an_image_finds_it_in_a_tar(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "0.tar", {"deep/7.png": png(0), "deep/7.json": {"boxes": {"cat": [1, 2, 3, 4]}}})
    [item], _ = found(tar, "What?")
    coco = {
        "images": [{"id": 1, "file_name": "7.png"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [5, 5, 10, 10]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(coco), "utf-8")
    assert read_truth(tmp_path / "boxes.json").of(item.facts()).boxes == {"cat": [[5.0, 5.0, 15.0, 15.0]]}
    # The tar itself may be the truth of another run.
    assert read_truth(tar).of(item.facts() | {"boxes": None}).boxes == {"cat": [[1.0, 2.0, 3.0, 4.0]]}


def test_boxes_of_a_tar_are_the_truth_of_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    members: dict[str, bytes | str | dict[str, Any]] = {}
    for n in range(4):
        members |= sample(n, boxes={"red circle": [0, 0, 64, 48]})
    data = tar_of(tmp_path / "data" / "0.tar", members)
    worked(tmp_path / "out", data, Made(data.parent))
    assert main(["evaluate", str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "4 of 4; 4 of known truth" in said
    assert "pointing_game [layers_heads, phrase] 1.000, n 4" in said


def test_a_kind_of_somebody_else_comes_in_by_an_entry_point(tmp_path: Path) -> None:
    path = pack_of(tmp_path / "a.pack", [png(0), png(1)])
    with pytest.raises(DataError, match=r"got a name that ends in '\.pack'"):
        found(path)
    with installed(tmp_path / "package", KINDS, "support.toy_data:DECLARATION"):
        items, images = found(path)
        assert [(item.id, item.prompt) for item in items] == [("0", "What is in 0?"), ("1", "What is in 1?")]
        assert images == [png(0), png(1)]
        worked(tmp_path / "out", path, Made(tmp_path))
        with Store(tmp_path / "out") as store:
            assert [row["error"] for row in store.rows()] == [None, None]
