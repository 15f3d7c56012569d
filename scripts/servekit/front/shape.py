"""The shape of a request's body, before TorchServe takes it apart: fields, parts and names are counted and bounded.

TorchServe's form decoders need seconds to minutes for millions of fields, outside any deadline (its netty is of 2020;
CVE-2024-29025 is one of the reasons). What they get is therefore small in number and strict in form.
"""

from __future__ import annotations

import re

from servekit.front import refusals

FIELDS = 64
"""Fields of a form, parts of a multipart body, inputs of a gRPC message."""
NAME_BYTES = 256
PART_HEAD_BYTES = 4096
_BOUNDARY = re.compile(r'boundary=(?:"([0-9A-Za-z\'()+_,./:=? -]{1,70})"|([0-9A-Za-z\'+_./-]{1,70}))\s*(?:;|$)', re.I)


def check_body(content_type: str, body: bytes) -> None:
    """Checks a body of a content type.

    Raises:
        RequestError: too many fields or parts, names that are too long, or a form that could be read in two ways.
    """
    kind = content_type.partition(";")[0].strip().lower()
    # The decoders look at the beginning only, so whatever begins alike is held to the same rules.
    if kind.startswith("application/x-www-form-urlencoded"):
        _check_form(body)
    elif kind.startswith("multipart/"):
        _check_parts(content_type, body)


def _check_form(body: bytes) -> None:
    if body.count(b"&") >= FIELDS:
        raise refusals.too_many("fields", FIELDS)
    if any(len(field.partition(b"=")[0]) > NAME_BYTES for field in body.split(b"&")):
        raise refusals.bad_form(f"a name of more than {NAME_BYTES} bytes")


def _check_parts(content_type: str, body: bytes) -> None:
    boundaries = _BOUNDARY.findall(content_type)
    if len(boundaries) != 1 or content_type.lower().count("boundary") != 1:
        raise refusals.bad_form("no boundary, or more than one")
    delimiter = b"--" + (boundaries[0][0] or boundaries[0][1]).encode("ascii")
    if not body.startswith(delimiter):
        raise refusals.bad_form("something before its first boundary")
    if body.count(delimiter) > FIELDS + 1:
        raise refusals.too_many("parts", FIELDS)
    place = 0
    while True:
        start = place + len(delimiter)
        if body[start : start + 2] == b"--":
            return
        if body[start : start + 2] != b"\r\n":
            raise refusals.bad_form("a boundary that is followed by something else")
        end = body.find(b"\r\n\r\n", start, start + PART_HEAD_BYTES)
        if end < 0:
            raise refusals.bad_form(f"a part whose head is longer than {PART_HEAD_BYTES} bytes or has no end")
        head = body[start:end].lower()
        if re.search(rb"\r\ncontent-type:[ \t]*multipart/", head) or b"\r\ncontent-disposition:" not in head:
            raise refusals.bad_form("a part of parts, or one without a Content-Disposition")
        found = body.find(b"\r\n" + delimiter, end + 2)
        if found < 0:
            raise refusals.bad_form("no boundary at its end")
        place = found + 2


def check_message(message: bytes) -> None:
    """Counts the fields of a protobuf message's first level without making any object of them.

    Raises:
        RequestError: more fields than `FIELDS`, or bytes that are no message.
    """
    place, fields = 0, 0
    while place < len(message):
        fields += 1
        if fields > FIELDS:
            raise refusals.too_many("inputs", FIELDS)
        tag, place = _varint(message, place)
        match tag & 7:
            case 0:
                _, place = _varint(message, place)
            case 1:
                place += 8
            case 2:
                size, place = _varint(message, place)
                place += size
            case 5:
                place += 4
            case _:
                raise refusals.not_a_message()
    if place != len(message):
        raise refusals.not_a_message()


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = 0
    for number, byte in enumerate(message[place : place + 10]):
        value |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            return value, place + number + 1
    raise refusals.not_a_message()
