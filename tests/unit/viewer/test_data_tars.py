"""Tars of WebDataset: read in place, damaged ones refused, images found again until others are there."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

from llava_viewer.cli import main
from llava_viewer.data.images import image_bytes, image_name
from llava_viewer.data.kind import DataError
from llava_viewer.data.reading import is_data, read_data
from llava_viewer.store import Store
from support.data_kinds import found, png, sample, tar_of
from support.runs import Made, worked

SAVED = Path(__file__).parents[2] / "data" / "hugging_face"
"""Made by `python -m upkeep.make_data_sets`, that is, by the package `datasets` itself."""
COLOURS = ("red", "green", "blue", "yellow", "white")


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_tar_is_read_in_place(tmp_path: Path, form: int) -> None:
    boxes = {"cat": [1, 2, 30, 40]}
    members = sample(0, boxes=boxes, tags=["odd"]) | {"notes.pdf": b"%PDF"} | sample(1, id="another")
    path = tar_of(tmp_path / "data.tar", members, form)
    items, images = found(path)
    assert [(item.n, item.id, item.prompt, item.expected) for item in items] == [
        (0, "000000", "What is in 0?", "a red circle"), (1, "000001", "What is in 1?", "a red circle"),
    ]  # fmt: skip
    assert (items[0].boxes, items[0].tags, items[1].tags) == ({"cat": [[1.0, 2.0, 30.0, 40.0]]}, ("odd",), None)
    assert images == [png(0), png(1)]
    assert image_name(items[1].image) == "000001.png"
    assert dict(read_data(path, {}).columns) == {
        "image": "image", "prompt": "prompt", "id": "__key__", "expected": "answer", "boxes": "boxes", "tags": "tags",
    }  # fmt: skip


def test_shards_are_named_by_a_folder_or_by_braces(tmp_path: Path) -> None:
    for n in range(12):
        tar_of(tmp_path / f"shard-{n:03}.tar", sample(n))
    (tmp_path / "README.md").write_text("words", "utf-8")
    items, images = found(tmp_path / "shard-{002..011}.tar")
    assert [item.id for item in items] == [f"{n:06}" for n in range(2, 12)]
    assert images[9] == png(11)
    assert len(found(tmp_path)[0]) == 12
    assert [item.id for item in found(tmp_path / "shard-00{1,5}.tar")[0]] == ["000001", "000005"]
    assert is_data(tmp_path / "shard-{002..011}.tar")
    assert not is_data(tmp_path / "other.jpg")
    with pytest.raises(FileNotFoundError):
        found(tmp_path / "shard-{010..012}.tar")
    with pytest.raises(DataError, match=r"\{9\.\.1\}: got -7 names"):
        found(tmp_path / "shard-{9..1}.tar")


def test_texts_are_answers_unless_they_are_named_as_prompts(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {}
    for n in range(2):
        members |= {f"./deep/{n}.jpg": png(n), f"./deep/{n}.txt": f"a cat {n}\n", f"./deep/{n}.cls": str(n)}
    path = tar_of(tmp_path / "data.tar", members)
    items, images = found(path, "What?", "Where?")
    assert [(item.id, item.prompt, item.expected) for item in items[:3]] == [
        ("deep/0", "What?", "0"), ("deep/0#1", "Where?", "0"), ("deep/1", "What?", "1"),
    ]  # fmt: skip
    assert images == [png(0), png(0), png(1), png(1)]
    [first, _] = found(path, prompt="txt", expected="")[0]
    assert (first.prompt, first.expected) == ("a cat 0", "")
    assert found(path, prompt="cls")[0][1].prompt == "1"
    assert found(path, prompt="cls")[0][1].expected == "a cat 1"


def test_of_several_images_one_is_named(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "data.tar", {"a.in.png": png(0), "a.mask.png": png(1), "a.txt": "a cat"})
    with pytest.raises(DataError, match=r"data\.tar a, image: got \('a\.in\.png', 'a\.mask\.png'\), expected the path"):
        found(path, "What?")
    assert found(path, "What?", image="in.png")[1] == [png(0)]


def test_long_names_are_read_too(tmp_path: Path) -> None:
    name = f"{'far/' * 40}image"
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        path = tar_of(tmp_path / f"{form}.tar", {f"{name}.png": png(3), "b.png": png(4)}, form)
        [first, second], images = found(path, "What?")
        assert (first.id, second.id, images) == (name, "b", [png(3), png(4)])


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.png": b"x", "a.json": "{"}, r"data\.tar a\.json: got '\{', expected a JSON object"),
        ({"a.png": b"x", "a.json": "[1]"}, r"data\.tar a\.json: got \[1\], expected a JSON object"),
        ({"a.png": b"x", "a.txt": b"\xff"}, r"data\.tar a\.txt: got bytes that are no UTF-8"),
        ({"a.png": b"x", "b.json": {"x": 1}}, r"data\.tar b, image: got nothing, expected"),
        ({"a.png": b"x", "b.png": b"x", "./a.png": b"x"}, r"data\.tar a, id: got 'a', which data\.tar a has"),
        ({"a.png": b"x", "./a.png": b"x"}, r"data\.tar, a\.png: got it twice"),
        ({"a.json": {"boxes": {"cat": [5, 1, 2, 3]}}, "a.png": b"x"}, r"data\.tar a, boxes\.cat: got \[5, 1, 2, 3\]"),
        ({"a.md": b"x"}, r"image: got the columns , expected one with"),
    ],
)
def test_what_is_wrong_in_a_tar_is_told_with_its_member(
    tmp_path: Path, members: dict[str, bytes | str | dict[str, Any]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        found(tar_of(tmp_path / "data.tar", members), "What?")


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_beyond_ascii_are_read(tmp_path: Path, form: int) -> None:
    path = tar_of(tmp_path / "data.tar", {"größe.png": png(0), "猫.png": png(1)}, form)
    items, images = found(path, "What?")
    assert [item.id for item in items] == ["größe", "猫"]
    assert images == [png(0), png(1)]


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_link_is_no_image(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "data.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("b.png")
        info.type, info.linkname = kind, "a.png"
        tar.addfile(info)
    with pytest.raises(DataError, match=r"data\.tar b\.png: got a link to 'a\.png', expected the file itself"):
        found(path, "What?")


def test_damaged_and_compressed_tars_are_refused(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "data.tar", {"a.png": png(0), "b.png": png(1)})
    [_, second], _ = found(path, "What?")
    whole = path.read_bytes()
    at = int(second.image.rpartition("@")[2])
    path.write_bytes(whole[: at + 600])
    with pytest.raises(DataError, match=r"data\.tar: got unexpected end of data, expected a tar"):
        found(path, "What?")
    path.write_bytes(whole[:at] + b"?" * 512 + whole[at + 512 :])
    with pytest.raises(DataError, match=rf"data\.tar: got bytes at {at} behind the tar's end or in a damaged member"):
        found(path, "What?")
    path.write_bytes(whole[:at] + b"\0" * 512 + whole[at + 512 :])
    with pytest.raises(DataError, match=rf"data\.tar: got bytes at {at + 512} behind the tar's end"):
        found(path, "What?")
    path.write_bytes(whole[:at])
    with pytest.raises(DataError, match=r"data\.tar: got 0 bytes behind the last member, .*it is cut off"):
        found(path, "What?")
    path.write_bytes(whole + whole)
    with pytest.raises(DataError, match=rf"data\.tar: got bytes at {len(whole)} behind the tar's end"):
        found(path, "What?")
    (tmp_path / "data.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match=r"data\.tar\.gz: got a compressed tar, expected \.tar"):
        found(tmp_path / "data.tar.gz", "What?")


def test_a_run_over_a_tar_has_its_images_until_another_one_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    data = tar_of(tmp_path / "data" / "0.tar", sample(0) | sample(1) | {"000002.json": {"prompt": "?"}})
    tar_of(data, sample(0) | sample(1) | sample(2))
    out = tmp_path / "out"
    worked(out, data, Made(data.parent))
    with Store(out) as store:
        record = store.record("000001")
        assert record.facts.annotations is not None
        assert record.facts.annotations.right
        # The made records do not say which image they are of, so it is held against nothing.
        assert store.row("000001")["image"].startswith("0.tar::000001.png@")
        assert [row["error"] for row in store.rows()] == [None] * 3
    assert main(["render", f"{out}::000001", "-o", str(tmp_path / "page.html")]) == 0
    capsys.readouterr()
    [_, second, _], _ = found(data)
    tar_of(data, {"000000.json": {"prompt": "a longer question" * 100}, "000000.png": png(0)} | sample(1))
    with pytest.raises(OSError, match=r"byte \d+ of 0\.tar"):
        image_bytes(data.parent, second.image)
