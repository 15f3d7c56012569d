"""Several sequences of one request in one file: whole, in order, and no way around the limits."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from llava_wire import Record, decode, encode
from llava_wire.errors import RecordError
from support.synthetic import make_record

FIRST, SECOND, THIRD = (
    make_record(words=words, with_picture=False).without_run() for words in (("A",), ("B", " c"), ("D",))
)
TOGETHER = replace(FIRST, alternatives=(SECOND, THIRD))


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(content: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_all_sequences_come_back_in_order() -> None:
    record = decode(encode(TOGETHER))
    assert [other.answer for other in record.alternatives] == [SECOND.answer, THIRD.answer]
    assert encode(record) == encode(TOGETHER)
    assert encode(record.alternatives[0]) == encode(SECOND)
    assert encode(decode(members(encode(TOGETHER))["alternatives/1.npz"])) == encode(SECOND)


def test_a_sequence_is_a_record_of_its_own_with_picture_and_run() -> None:
    record = replace(TOGETHER, run={"request_id": "r"}, picture=("picture.png", b"x"))
    assert record.sequence(0).alternatives == ()
    second = record.sequence(1)
    assert (second.answer, second.run, second.picture) == (SECOND.answer, record.run, record.picture)
    np.testing.assert_array_equal(second.maps_float(), SECOND.maps_float())
    for index in (-1, 3):
        with pytest.raises(ValueError, match=f"sequence: got {index}, expected 0 to 2"):
            record.sequence(index)


@pytest.mark.parametrize("extra", [{"run": {"a": 1}}, {"picture": ("picture.png", b"x")}, {"alternatives": (THIRD,)}])
def test_an_alternative_carries_nothing_that_belongs_to_the_file(extra: dict) -> None:
    with pytest.raises(ValueError, match=r"alternatives\[0\]"):
        encode(replace(FIRST, alternatives=(replace(SECOND, **extra),)))


def test_damaged_alternatives_are_refused() -> None:
    good = members(encode(TOGETHER))
    gap = {("alternatives/7.npz" if name == "alternatives/2.npz" else name): data for name, data in good.items()}
    with pytest.raises(RecordError) as caught:
        decode(zipped(gap))
    assert caught.value.reason == "invalid"
    with pytest.raises(RecordError) as caught:
        decode(zipped({**good, "alternatives/1.npz": b"PK\x03\x04"}))
    assert caught.value.reason == "truncated"
    with pytest.raises(RecordError) as caught:
        decode(zipped({**good, **{f"alternatives/{i}.npz": b"" for i in range(1, 70)}}))
    assert caught.value.reason == "too_large"


def test_alternatives_inflate_to_no_more_than_the_rest_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(TOGETHER)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        outer = sum(info.file_size for info in archive.infolist())
    monkeypatch.setattr("llava_wire.limits.MAX_INFLATED_BYTES", outer + 1000)
    with pytest.raises(RecordError) as caught:
        decode(data)
    assert caught.value.reason == "too_large"


def test_nested_alternatives_are_not_followed() -> None:
    inner = members(encode(SECOND))
    deep = zipped({**inner, "alternatives/1.npz": encode(THIRD)})
    record: Record = decode(zipped({**members(encode(FIRST)), "alternatives/1.npz": deep}))
    assert record.alternatives[0].alternatives == ()
