"""Records of several pictures carry all of them or none, in the order of their images."""

from __future__ import annotations

import io
import zipfile

import pytest

from llava_server.ask.request import RECORD_LIMITS
from llava_wire import RecordError, decode, encode
from llava_wire.container import decode_question
from support.several import make_several
from support.synthetic import make_record

TWO = (("picture.png", b"first"), ("picture.jpg", b"second"))


def rewritten(data: bytes, drop: str = "", more: dict[str, bytes] | None = None) -> bytes:
    """A record file without one member, or with further ones."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            if name != drop:
                new.writestr(name, old.read(name))
        for name, content in (more or {}).items():
            new.writestr(name, content)
    return buffer.getvalue()


def test_both_pictures_come_back_in_their_order() -> None:
    record = make_several().with_pictures(TWO)
    data = encode(record)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist()[-3:] == ["picture.png", "pictures/1.jpg", "run.json"]
    again = decode(data)
    assert again.pictures == (("picture.png", b"first"), ("pictures/1.jpg", b"second"))
    assert encode(again) == data
    assert again.sequence(0).pictures == again.pictures
    facts, carried = decode_question(data, RECORD_LIMITS)
    assert (len(facts.images), carried) == (2, again.pictures)


def test_none_is_as_good_and_one_is_not() -> None:
    assert decode(encode(make_several())).pictures == ()
    with pytest.raises(ValueError, match="pictures: got 1, expected the 2 that the record was made from"):
        make_several().with_picture("picture.png", b"first")
    with pytest.raises(ValueError, match="pictures: got 2, expected the 1"):
        make_record(with_picture=False).with_pictures(TWO)


@pytest.mark.parametrize(
    ("drop", "more"),
    [
        ("pictures/1.jpg", {}),
        ("picture.png", {}),
        ("pictures/1.jpg", {"pictures/2.jpg": b"second"}),
        ("", {"pictures/2.png": b"third"}),
    ],
)
def test_a_file_with_another_number_of_pictures_is_refused(drop: str, more: dict[str, bytes]) -> None:
    damaged = rewritten(encode(make_several().with_pictures(TWO)), drop, more)
    with pytest.raises(RecordError, match="expected one for each of 2 images or none") as refused:
        decode(damaged)
    assert refused.value.reason == "invalid"
    with pytest.raises(RecordError):
        decode_question(damaged, RECORD_LIMITS)


def test_all_pictures_together_are_bounded_in_a_question() -> None:
    from dataclasses import replace

    record = make_several().with_pictures((("picture.png", bytes(600)), ("picture.png", bytes(600))))
    with pytest.raises(RecordError, match="got 1200 bytes, expected 1000"):
        decode_question(encode(record), replace(RECORD_LIMITS, picture_bytes=1000))
