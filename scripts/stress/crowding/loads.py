"""The loads: who sends what to a server, and how many at once are twice what an unguarded TorchServe dies of.

Flow: a name -> `Load` -> `prepare` (its bodies are made) -> a function that fires so many at a target -> `Seen`s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal
from urllib.parse import urlsplit

from stress.crowding import bodies
from stress.crowding.calls import Calls
from stress.crowding.replies import Seen
from stress.crowding.sockets import Connection, post, send_all

_PATIENCE_S = 120.0
"""A whole request without a reply after this hangs."""
_HOLD_S = 135.0
"""A connection that says nothing, or not the rest, and is open after this is never closed."""
_MOST_BYTES = 20_000_000
"""Just under `max_request_size`, 20 MiB."""
_PLAIN = b"GET / HTTP/1.1\r\nHost: crowd\r\n\r\n"
_BEGUN = b"POST /predictions/"
_GRPC_BEGUN = b"PRI * HTTP/2.0\r\n"


@dataclass(frozen=True)
class Material:
    """What bodies are made of: the served model's name, a small picture, and the record of a question about it."""

    model: str
    picture: bytes
    record: bytes


@dataclass(frozen=True)
class Target:
    """What is fired at: the inference address of HTTP, host:port of gRPC, and the key of the moment."""

    http: str
    grpc: str
    key: str

    @property
    def place(self) -> tuple[str, int]:
        """Host and port of HTTP."""
        parts = urlsplit(self.http)
        return parts.hostname or "127.0.0.1", parts.port or 80

    @property
    def grpc_place(self) -> tuple[str, int]:
        """Host and port of gRPC."""
        host, _, port = self.grpc.rpartition(":")
        return host, int(port)


Fire = Callable[[Target, int], list[Seen]]
Prepare = Callable[[Material], Fire]
Ends = Literal["replies", "closed"]


@dataclass(frozen=True)
class Load:
    """One kind of load.

    Args:
        words: what is done, for a table; `{count}` stands for how many.
        count: how many at once: twice what was fatal.
        prepare: makes the bodies and gives the function that fires.
        ends: what each must come to: a reply, or a connection that the server closes.
    """

    words: str
    count: int
    prepare: Prepare
    ends: Ends = "replies"


def _bodies(kind: str, make: Callable[[Material], Sequence[bytes]]) -> Prepare:
    """Whole requests with a key, each with one of the bodies in turn."""

    def prepare(material: Material) -> Fire:
        made, path = make(material), f"/predictions/{material.model}"

        def fire(target: Target, count: int) -> list[Seen]:
            pieces = [(post(path, kind, len(body), target.key), body) for body in made]
            crowd = [Connection(both) for both in islice(cycle(pieces), count)]
            return asyncio.run(send_all(target.place, crowd, _PATIENCE_S))

        return fire

    return prepare


def _unfinished(*, key: bool) -> Prepare:
    """Bodies of a million bytes less than was announced."""

    def prepare(material: Material) -> Fire:
        body, path = bytes(_MOST_BYTES - 1_000_000), f"/predictions/{material.model}"

        def fire(target: Target, count: int) -> list[Seen]:
            head = post(path, bodies.FORM_TYPE, _MOST_BYTES, target.key if key else None)
            return asyncio.run(send_all(target.place, [Connection((head, body), whole=False)] * count, _HOLD_S))

        return fire

    return prepare


def _bare(pieces: Sequence[tuple[bytes, ...]], *, grpc: bool) -> Prepare:
    """Connections that send next to nothing, each one of the pieces in turn."""

    def fire(target: Target, count: int) -> list[Seen]:
        crowd = [Connection(piece, whole=False) for piece in islice(cycle(pieces), count)]
        return asyncio.run(send_all(target.grpc_place if grpc else target.place, crowd, _HOLD_S))

    return lambda material: fire


def _calls(make: Callable[[Material], bytes | None], *, whole: bool = True, key: bool = True) -> Prepare:
    """gRPC calls with one message."""

    def prepare(material: Material) -> Fire:
        made = make(material)

        def fire(target: Target, count: int) -> list[Seen]:
            calls = Calls(target.grpc, target.key if key else None, count)
            try:
                return calls.send_all(made, count, _PATIENCE_S if whole else _HOLD_S, whole=whole)
            finally:
                calls.close()

        return fire

    return prepare


def _large_json(material: Material) -> list[bytes]:
    return [bodies.json_question(bodies.large_picture())]


def _large_form(material: Material) -> list[bytes]:
    return [bodies.form({"image": bodies.large_picture(), "prompt": bodies.PROMPT, "options": bodies.OPTIONS_JSON})]


def _large_call(material: Material) -> bytes:
    return bodies.call(material.model, bodies.large_picture())


def _replays(material: Material) -> list[bytes]:
    crafts = [bodies.crafted(material.record, craft, bodies.LISTED) for craft in bodies.CRAFTS]
    return [bodies.form({"image": material.picture, "record": record}) for record in crafts]


LOADS: dict[str, Load] = {
    "large_json": Load(
        "{count} JSON bodies of 14 MB at once, each a picture of 10 MiB", 56, _bodies(bodies.JSON_TYPE, _large_json)
    ),
    "large_forms": Load(
        "{count} forms of 10.5 MB at once, each a picture of 10 MiB", 72, _bodies(bodies.FORM_TYPE, _large_form)
    ),
    "large_calls": Load("{count} gRPC calls of 10.5 MB at once", 96, _calls(_large_call)),
    "many_calls": Load("{count} gRPC calls of 10.5 MB at once", 128, _calls(_large_call)),
    "form_fields": Load(
        "{count} forms of 12 MB at once, `a&a&a&...`",
        2,
        _bodies(bodies.FIELDS_TYPE, lambda material: [bodies.many_fields(12_000_000)]),
    ),
    "form_names": Load(
        "{count} forms of 19 MB at once, names without `=`",
        2,
        _bodies(bodies.FIELDS_TYPE, lambda material: [bodies.many_names(19_000_000)]),
    ),
    "form_parts": Load(
        "{count} forms of 340,000 parts at once",
        2,
        _bodies(bodies.FORM_TYPE, lambda material: [bodies.many_parts(340_000)]),
    ),
    "json_members": Load(
        "{count} JSON bodies of 19 MB at once, 1.6 million members",
        2,
        _bodies(bodies.JSON_TYPE, lambda material: [bodies.many_members(19_000_000)]),
    ),
    "map_keys": Load(
        "{count} gRPC calls of 1.9 million map keys at once",
        2,
        _calls(lambda material: bodies.many_keys(material.model, 1_900_000)),
    ),
    "unfinished_keyless": Load("{count} bodies of 19 of 20 MB without a key", 98, _unfinished(key=False), "closed"),
    "unfinished": Load("{count} bodies of 19 of 20 MB with a key", 98, _unfinished(key=True), "closed"),
    "unended_calls_keyless": Load(
        "{count} gRPC calls of 10.5 MB without a key that do not end",
        98,
        _calls(_large_call, whole=False, key=False),
        "closed",
    ),
    "unended_calls": Load(
        "{count} gRPC calls of 10.5 MB with a key that do not end", 98, _calls(_large_call, whole=False), "closed"
    ),
    "silent_calls": Load(
        "{count} gRPC calls with a key that send no message",
        200,
        _calls(lambda material: None, whole=False),
        "closed",
    ),
    "idle": Load(
        "{count} connections to HTTP with no byte or half a line", 600, _bare(((), (_BEGUN,)), grpc=False), "closed"
    ),
    "idle_grpc": Load(
        "{count} connections to gRPC with no byte or half a preface",
        600,
        _bare(((), (_GRPC_BEGUN,)), grpc=True),
        "closed",
    ),
    "replays": Load(
        "{count} replays at once of records with a list of 163,918 entries", 4, _bodies(bodies.FORM_TYPE, _replays)
    ),
    "plain_http": Load("{count} plain HTTP requests to the gRPC port", 2000, _bare(((_PLAIN,),), grpc=True), "closed"),
}
"""By name; what the faults were measured at is half of each count."""
