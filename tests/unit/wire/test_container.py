"""Records survive the way to bytes and back; files that are no whole record end in one typed error."""

from __future__ import annotations

import io
import json
import random
import zipfile
from typing import Any

import numpy as np
import pytest

from llava_wire import RecordError, container, decode, encode, limits
from support.archives import members_of, npy, packed, reason_of, small, with_json


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
    with pytest.raises(ValueError, match=r"expected picture\.png or picture\.jpg"):
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


@pytest.mark.parametrize("version", [0, 3, "1", "2", None, [1], True, 1.0, 2.0])
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
    monkeypatch.setattr(limits, "MAX_INFLATED_BYTES", 2 << 20)
    monkeypatch.setattr(container, "member", inflate)
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
        patch.setattr(limits, "MAX_FILE_BYTES", len(data) - 1)
        assert reason_of(data) == "too_large"
    with monkeypatch.context() as patch:
        patch.setattr(limits, "MAX_JSON_BYTES", 100)
        assert reason_of(data) == "too_large"
    assert reason_of(packed({**members_of(data), **{f"m{i}": b"" for i in range(1001)}})) == "too_large"


def test_a_small_file_cannot_ask_for_a_huge_grid_or_array() -> None:
    def grow(document: dict[str, Any]) -> None:
        document["grids"][0].update(rows=10**9, cols=10**9)

    assert reason_of(with_json(grow)) == "invalid"
    members = members_of(encode(small()))
    header = npy(np.zeros((2, 2), np.uint8)).replace(b"(2, 2), ", b"(1000000000000,), ")
    assert reason_of(packed({**members, "views/0/maps.npy": header})) == "invalid"
