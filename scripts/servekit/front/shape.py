"""The shape of a request's body, before anybody takes it apart: parts and inputs are counted and bounded.

TorchServe's form decoders need seconds to minutes for millions of fields, outside any deadline (its netty is of 2020;
CVE-2024-29025 is one of the reasons), and write large parts to disk. So forms pass them as plain bytes, and the worker
takes them apart (`llava_server.front.incoming`); here they are counted, so that nobody waits for what will be refused.
"""

from __future__ import annotations

from llava_wire.system.multipart import MAX_PARTS, FormError, TooManyParts, is_multipart, parts
from servekit.front import refusals

FIELDS = 64
"""Inputs of a gRPC message; `MAX_PARTS` are those of a form."""


def check_body(content_type: str, body: bytes) -> None:
    """Checks a body of a content type.

    Raises:
        RequestError: too many parts, or a form that could be read in two ways.
    """
    if is_multipart(content_type):
        try:
            for _ in parts(content_type, body):
                pass
        except TooManyParts:
            raise refusals.too_many("parts", MAX_PARTS) from None
        except FormError as error:
            raise refusals.bad_form(str(error)) from None


def is_urlencoded(content_type: str) -> bool:
    """Whether TorchServe would take a body of this type apart field by field; it looks at the beginning only."""
    return content_type.strip().lower().startswith("application/x-www-form-urlencoded")


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
