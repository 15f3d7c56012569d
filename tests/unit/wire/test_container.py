"""Records survive the way to bytes and back; damaged and hostile files end in one typed error."""

from __future__ import annotations

import io
import json
import random
import re
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llava_wire import Record, RecordError, container, decode, encode
from support.synthetic import make_record

Members = dict[str, bytes]


def small(**changes: Any) -> Record:
    """A record of a few kilobytes: two words, two views, no picture."""
    settings: dict[str, Any] = {"words": ("A", " red"), "reductions": ("layers_heads",), "pairs": [(0, 1), (1, 2)]}
    return make_record(**{**settings, "with_picture": False, **changes})


def members_of(data: bytes) -> Members:
    """The members of a record file, in order."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members: Members) -> bytes:
    """A sound zip of any members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def with_json(change: Callable[[dict[str, Any]], object]) -> bytes:
    """A small record whose record.json was changed; everything else is sound."""
    members = members_of(encode(small()))
    document = json.loads(members["record.json"])
    change(document)
    return packed({**members, "record.json": json.dumps(document).encode()})


def npy(array: np.ndarray, **options: Any) -> bytes:
    """An array as an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def reason_of(data: bytes) -> str:
    """The reason for which `decode` refuses these bytes; the message must say what is allowed."""
    with pytest.raises(RecordError) as caught:
        decode(data)
    assert "got" in str(caught.value)
    assert "allowed" in str(caught.value) or "disagree" in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("precision", ["uint8", "float16", "float32"])
@pytest.mark.parametrize("with_picture", [True, False])
def test_a_record_comes_back_whole(precision: str, with_picture: bool) -> None:
    record = small(
        precision=precision,
        with_picture=with_picture,
        reductions=("none", "heads", "layers_heads", "all"),
        prompt="Är? 🦊",
    )
    back = decode(encode(record))
    assert back.facts == record.facts
    assert back.geometry == record.geometry
    assert back.picture == record.picture
    assert back.run == record.run
    assert list(back.views) == list(record.views)
    for name, view in record.views.items():
        assert back.views[name].facts == view.facts
        for left, right in [
            (back.views[name].stored, view.stored),
            (back.views[name].scales, view.scales),
            (back.views[name].shares, view.shares),
        ]:
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(back.maps_float(), record.maps_float())


def test_equal_records_give_equal_bytes_and_the_run_block_stands_apart() -> None:
    first, second = small(), small()
    second.run["total_ms"] = 99.0
    assert encode(first) == encode(small())
    assert encode(first) != encode(second)
    assert encode(first.without_run()) == encode(second.without_run())
    assert "run.json" not in members_of(encode(first.without_run()))


def test_members_dates_and_compression_are_fixed() -> None:
    with zipfile.ZipFile(io.BytesIO(encode(small(with_picture=True)))) as archive:
        infos = archive.infolist()
    views = [f"views/{i}/{name}.npy" for i in (0, 1) for name in ("maps", "scales", "shares")]
    assert [info.filename for info in infos] == ["record.json", "patch_rects.npy", *views, "picture.png", "run.json"]
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    stored = [info.filename for info in infos if info.compress_type == zipfile.ZIP_STORED]
    assert stored == ["picture.png"]


def test_numpy_alone_opens_it_without_pickle() -> None:
    with np.load(io.BytesIO(encode(small())), allow_pickle=False) as archive:
        assert json.loads(bytes(archive["record.json"]))["format"] == "llava-gaze-record"
        assert archive["views/0/maps"].dtype == np.uint8


def test_unknown_members_and_keys_are_left_alone() -> None:
    def add(document: dict[str, Any]) -> None:
        document["later"] = {"x": 1}
        document["tokens"][0]["later"] = 1

    members = members_of(with_json(add))
    assert decode(packed({**members, "later.bin": b"x"})).facts == small().facts


def test_a_picture_needs_one_of_two_names() -> None:
    record = small()
    assert decode(encode(record.with_picture("picture.jpg", b"x"))).picture == ("picture.jpg", b"x")
    with pytest.raises(ValueError, match=r"allowed picture\.png or picture\.jpg"):
        encode(record.with_picture("../picture.png", b"x"))


def test_a_number_that_is_not_finite_is_never_written() -> None:
    record = small()
    record.run["total_ms"] = float("nan")
    with pytest.raises(ValueError):
        encode(record)


def test_every_truncation_is_refused() -> None:
    data = encode(small(with_picture=True, grid=4))
    for length in [*range(0, 600), *range(600, len(data) - 600, 97), *range(len(data) - 600, len(data))]:
        assert reason_of(data[:length]) == ("not_a_record" if length < 4 else "truncated"), length


def test_damage_ends_in_a_record_error_or_a_record() -> None:
    data = encode(small(grid=4))
    rng = random.Random(0)
    for _ in range(1500):
        damaged = bytearray(data)
        for _ in range(rng.choice([1, 1, 2, 8])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        if rng.random() < 0.2:
            start = rng.randrange(len(damaged))
            del damaged[start : start + rng.randrange(1, 40)]
        try:
            decode(bytes(damaged))
        except RecordError:
            continue


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"hello world", b'{"error": {}}', b"\x93NUMPY", b"\x89PNG\r\n\x1a\n", b"\0" * 99]
)
def test_wrong_magic(data: bytes) -> None:
    assert reason_of(data) == "not_a_record"


def test_other_zips_are_not_records() -> None:
    assert reason_of(packed({"hello.txt": b"hello"})) == "not_a_record"
    assert reason_of(with_json(lambda document: document.update(format="other"))) == "not_a_record"
    assert reason_of(with_json(lambda document: document.pop("format"))) == "not_a_record"


@pytest.mark.parametrize("version", [0, 2, "1", None, [1], True, 1.0])
def test_unknown_version(version: object) -> None:
    data = with_json(lambda document: document.update(version=version))
    assert reason_of(data) == "unsupported_version"


def test_unknown_encoding_is_a_version_question() -> None:
    data = with_json(lambda document: document["views"][0].update(encoding="log-u8"))
    assert reason_of(data) == "unsupported_version"


def test_an_encrypted_or_oddly_packed_member_is_refused() -> None:
    data = bytearray(encode(small()))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1  # the encryption flag of the first member
    assert reason_of(bytes(data)) == "truncated"


def test_a_zip_bomb_is_refused_before_it_is_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    def inflate(*_: object) -> bytes:
        raise AssertionError("inflated")

    bomb = packed({**members_of(encode(small())), "bomb.bin": bytes(3 << 20)})
    assert len(bomb) < 64 << 10
    monkeypatch.setattr(container, "MAX_INFLATED_BYTES", 2 << 20)
    monkeypatch.setattr(container, "_member", inflate)
    assert reason_of(bomb) == "too_large"


def test_a_directory_that_lies_about_sizes_does_not_help() -> None:
    data = bytearray(packed({"record.json": b" " * (1 << 20)}))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = data.index(signature) + offset
        data[start : start + 4] = (10).to_bytes(4, "little")
    assert reason_of(bytes(data)) == "truncated"


def test_limits_on_file_members_and_json(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(small())
    with monkeypatch.context() as patch:
        patch.setattr(container, "MAX_FILE_BYTES", len(data) - 1)
        assert reason_of(data) == "too_large"
    with monkeypatch.context() as patch:
        patch.setattr(container, "MAX_JSON_BYTES", 100)
        assert reason_of(data) == "too_large"
    assert reason_of(packed({**members_of(data), **{f"m{i}": b"" for i in range(1001)}})) == "too_large"


def test_a_small_file_cannot_ask_for_a_huge_grid_or_array() -> None:
    def grow(document: dict[str, Any]) -> None:
        document["geometry"].update(rows=10**9, cols=10**9)

    assert reason_of(with_json(grow)) == "invalid"
    members = members_of(encode(small()))
    header = npy(np.zeros((2, 2), np.uint8)).replace(b"(2, 2), ", b"(1000000000000,), ")
    assert reason_of(packed({**members, "views/0/maps.npy": header})) == "invalid"


ARRAYS = ["patch_rects.npy", *(f"views/{i}/{name}.npy" for i in (0, 1) for name in ("maps", "scales", "shares"))]


DAMAGES = ("gone", "empty", "cut", "text", "dtype", "shape", "order", "longer", "pickle")


@pytest.mark.parametrize(
    ("name", "damage"),
    # One axis has one order.
    [(name, damage) for name in ARRAYS for damage in DAMAGES if (name, damage) != ("views/0/scales.npy", "order")],
)
def test_damaged_arrays(name: str, damage: str) -> None:
    members = members_of(encode(small()))
    array = np.load(io.BytesIO(members[name]))
    replacement = {
        "empty": b"",
        "cut": members[name][:-1],
        "text": b"not an array",
        "dtype": npy(array.astype(">i8")),
        "shape": npy(array[:-1]),
        "order": npy(np.asfortranarray(array)),
        "longer": members[name] + b"x",
        "pickle": npy(np.array([{"a": 1}], dtype=object), allow_pickle=True),
    }
    if damage == "gone":
        del members[name]
    else:
        members[name] = replacement[damage]
    assert reason_of(packed(members)) == "invalid"


@pytest.mark.parametrize("name", ["scales", "shares"])
def test_numbers_in_arrays_are_finite(name: str) -> None:
    members = members_of(encode(small()))
    array = np.load(io.BytesIO(members[f"views/0/{name}.npy"])).copy()
    array.flat[0] = np.nan
    assert reason_of(packed({**members, f"views/0/{name}.npy": npy(array)})) == "invalid"


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("shares", (5, -4, 0, 0), r"views/0/shares.npy: got 5, allowed -0.001 to 1.001"),
        ("shares", (-0.1, 0.5, 0.3, 0.3), r"views/0/shares.npy: got -0.1, allowed"),
        ("shares", (0.1, 0.1, 0.1, 0.1), r"views/0/shares.npy, sum of bos, .*: got 0.4, allowed 0.99 to 1.01"),
        ("scales", -1, r"views/0/scales.npy: got -1, allowed 0 or more"),
        ("maps", -0.5, r"views/0/maps.npy: got -0.5, allowed 0 to 1.001"),
        ("maps", 7, r"views/0/maps.npy: got 7, allowed 0 to 1.001"),
    ],
)
def test_numbers_that_no_attention_gives_are_refused(name: str, row: object, message: str) -> None:
    members = members_of(encode(small(precision="float32")))
    array = np.load(io.BytesIO(members[f"views/0/{name}.npy"])).copy()
    array[0] = row
    with pytest.raises(RecordError, match=message):
        decode(packed({**members, f"views/0/{name}.npy": npy(array)}))


@pytest.mark.parametrize("place", ["", ".top[0]"])
def test_a_log_probability_is_not_above_0(place: str) -> None:
    def change(document: dict[str, Any]) -> None:
        token = document["tokens"][1]
        (token["top"][0] if place else token)["logprob"] = 0.5

    with pytest.raises(RecordError, match=rf"record.json.tokens\[1\]{re.escape(place)}.logprob: got 0.5, allowed"):
        decode(with_json(change))


def test_rectangles_must_follow_from_the_geometry() -> None:
    members = members_of(encode(small()))
    rects = np.load(io.BytesIO(members["patch_rects.npy"])) + 1.0
    assert reason_of(packed({**members, "patch_rects.npy": npy(rects)})) == "invalid"


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no geometry": lambda d: d.pop("geometry"),
    "geometry is a list": lambda d: d.update(geometry=[]),
    "step without size": lambda d: d["geometry"]["steps"][0].pop("width_px"),
    "step of size 0": lambda d: d["geometry"]["steps"][0].update(width_px=0),
    "step of text": lambda d: d["geometry"]["steps"][0].update(width_px="9"),
    "offset of half a px": lambda d: d["geometry"]["steps"][-1].update(left_px=0.5),
    "step unknown": lambda d: d["geometry"]["steps"][0].update(op="rotate"),
    "too many steps": lambda d: d["geometry"].update(steps=d["geometry"]["steps"] * 99),
    "no rows": lambda d: d["geometry"].update(rows=0),
    "rows of float": lambda d: d["geometry"].update(rows=8.0),
    "no views": lambda d: d.update(views=[]),
    "views is an object": lambda d: d.update(views={}),
    "two views of one name": lambda d: d["views"][1].update(name=d["views"][0]["name"]),
    "axis unknown": lambda d: d["views"][0].update(axes=["time", "row", "col"]),
    "axis twice": lambda d: d["views"][0].update(axes=["query", "query", "row", "col"]),
    "axes turned": lambda d: d["views"][0].update(axes=["query", "col", "row"]),
    "precision unknown": lambda d: d["views"][0].update(precision="int4"),
    "one token less": lambda d: d["tokens"].pop(),
    "one query less": lambda d: d["queries"].pop(),
    "query of no token": lambda d: d["queries"][0].update(token=99),
    "query of a negative token": lambda d: d["queries"][0].update(token=-1),
    "kind unknown": lambda d: d["queries"][0].update(kind="image"),
    "pieces lost": lambda d: d["prompt"]["pieces"].pop(),
    "texts lost": lambda d: d["prompt"].update(texts=["What"]),
    "image tokens past the end": lambda d: d["prompt"].update(image_count=1000),
    "image tokens before the start": lambda d: d["prompt"].update(image_start=-1),
    "picture of no width": lambda d: d["image"].update(width_px=0),
    "logprob is text": lambda d: d["tokens"][0].update(logprob="-1"),
    "logprob without end": lambda d: d["tokens"][0].update(logprob=10**400),
    "id is true": lambda d: d["tokens"][0].update(id=True),
    "answer is gone": lambda d: d.pop("answer"),
    "tokens is null": lambda d: d.update(tokens=None),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_impossible_facts(change: Callable[[dict[str, Any]], object]) -> None:
    assert reason_of(with_json(change)) == "invalid"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"a": NaN}', b"9" * 5000])
@pytest.mark.parametrize("name", ["record.json", "run.json"])
def test_damaged_json(name: str, text: bytes) -> None:
    members = members_of(encode(small()))
    assert reason_of(packed({**members, name: text})) == "invalid"


def test_two_members_of_one_name() -> None:
    buffer = io.BytesIO(encode(small()))
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("record.json", b"{}")
    assert reason_of(buffer.getvalue()) == "invalid"
