"""Shots that cost a server more than their sender: great numbers of fields, large pictures, crafted replays, halves.

Flow: a random source and a sound record -> content type and body, a gRPC message, or the bytes of a connection.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable

from stress.crowding import bodies
from stress.crowding.messages import message

_SIZES = (20_000, 200_000, 2_000_000, 12_000_000)
_LISTED = (1_000, 30_000)
_SIDES_PX = (600, 1200, 1868)
_CROWDED: tuple[tuple[str, Callable[[int], bytes]], ...] = (
    (bodies.FIELDS_TYPE, bodies.many_fields),
    (bodies.FIELDS_TYPE, bodies.many_names),
    (bodies.JSON_TYPE, bodies.many_members),
    (bodies.FORM_TYPE, lambda size_bytes: bodies.many_parts(size_bytes // 60)),
)
HELD = (
    b"", b"POST /predictions/", b"POST /predictions/{model} HTTP/1.1\r\nHost: a\r\n",
    b"POST /predictions/{model} HTTP/1.1\r\n{auth}\r\nContent-Length: 20000000\r\n\r\n",
    b"POST /predictions/{model} HTTP/1.1\r\n{auth}\r\nContent-Length: 20000000\r\n\r\n" + bytes(1_000_000),
    b"POST /predictions/{model} HTTP/1.1\r\nContent-Length: 20000000\r\n\r\n" + bytes(1_000_000),
    b"POST /predictions/{model} HTTP/1.1\r\n{auth}\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n" + bytes(100_000),
)  # fmt: skip
"""The beginnings of requests whose rest does not come."""


def posted(rng: random.Random, record: bytes) -> tuple[str, bytes]:
    """Content type and body of a heavy POST."""
    kind = rng.randrange(4)
    if kind < 2:
        content_type, make = rng.choice(_CROWDED)
        return content_type, make(rng.choice(_SIZES))
    if kind == 2:
        picture = bodies.large_picture(rng.choice(_SIDES_PX))
        return (bodies.JSON_TYPE, bodies.json_question(picture)) if rng.random() < 0.5 else _form(picture)
    return bodies.FORM_TYPE, bodies.form(_replay(rng, record))


def called(rng: random.Random, model: str, record: bytes) -> bytes:
    """The message of a heavy gRPC call."""
    kind = rng.randrange(3)
    if kind == 0:
        return bodies.many_keys(model, rng.choice(_SIZES) // 10)
    if kind == 1:
        return bodies.call(model, bodies.large_picture(rng.choice(_SIDES_PX)))
    return message(model, list(_replay(rng, record).items()))


def _form(picture: bytes) -> tuple[str, bytes]:
    parts = {"image": picture, "prompt": bodies.PROMPT, "options": bodies.OPTIONS_JSON}
    return bodies.FORM_TYPE, bodies.form(parts)


def _replay(rng: random.Random, record: bytes) -> dict[str, bytes]:
    return {
        "image": bodies.large_picture(8),
        "record": _crafted(record, rng.choice(bodies.CRAFTS), rng.choice(_LISTED)),
    }


@functools.lru_cache(maxsize=16)
def _crafted(record: bytes, craft: bodies.Craft, count: int) -> bytes:
    return bodies.crafted(record, craft, count)
