"""What hostile servers do over gRPC, frame by frame, and what a client must make of it.

Flow: `GRPC`, a table of `Case`s -> a `HostileServer` for each.
"""

from __future__ import annotations

import gzip
import struct
import time
from collections.abc import Callable
from dataclasses import replace

from support.hostile import REPLY_HEAD, Wire, frame, literal
from support.hostile_http import BIG, FAR, GONE, LATE, NO_RECORD, Case, drip

_OK, _EXHAUSTED, _INTERNAL, _UNAVAILABLE = 0, 8, 13, 14


def called(then: Callable[[Wire], None]) -> Callable[[Wire], None]:
    """Takes a call, goes on with something, and waits for the client to leave."""

    def behave(wire: Wire) -> None:
        wire.call()
        then(wire)
        wire.wait()

    return behave


def ends(code: int, *headers: tuple[bytes, bytes]) -> Callable[[Wire], None]:
    """Ends the call with a status at once."""

    def behave(wire: Wire) -> None:
        wire.begin()
        wire.status(code, *headers)

    return called(behave)


def answers(payload: bytes, *, length: int | None = None) -> Callable[[Wire], None]:
    """A whole reply with this message, or with one that says to be longer."""

    def behave(wire: Wire) -> None:
        wire.begin()
        wire.message(payload, length=length)
        wire.status(_OK)

    return called(behave)


def flooded(data: bytes) -> Callable[[Wire], None]:
    """The same frames without end, in the midst of a call."""
    return called(lambda wire: wire.flood(data))


def _two_messages(wire: Wire) -> None:
    wire.begin()
    wire.message(b"")
    wire.message(b"")
    wire.status(_OK)


def _drips_message(wire: Wire) -> None:
    wire.begin()
    wire.message(b"", length=1 << 20)
    wire.drip(frame(0, 0, 1, b"x"))


def _flood_of_data(wire: Wire) -> None:
    """More of a message than the client's window has room for."""
    wire.begin()
    wire.message(b"", length=3 << 20)
    wire.flood(frame(0, 0, 1, bytes(1 << 14)))


def _prediction(size: int) -> bytes:
    """A PredictionResponse with that many bytes."""
    length, left = bytearray(), size
    while left >= 128:
        length.append(left % 128 + 128)
        left //= 128
    return b"\x0a" + bytes([*length, left]) + bytes(size)


def _continued(wire: Wire) -> None:
    wire.frame(1, 0, 1, REPLY_HEAD)
    wire.flood(frame(9, 0, 1, literal(b"x", b"y" * 100) * 20))


def _many_heads(wire: Wire) -> None:
    wire.begin()
    wire.flood(frame(1, 4, 1, REPLY_HEAD))


_BROKEN = ("internal", *NO_RECORD, *GONE, *LATE)
_ODD = ("internal", "too_large", *GONE, *LATE)


def _unpacks(wire: Wire) -> None:
    wire.begin((b"grpc-encoding", b"gzip"))
    wire.message(gzip.compress(bytes(256 << 20), 1), packed=True)
    wire.status(_OK)


def _reset_call(wire: Wire) -> None:
    wire.frame(3, 0, 1, struct.pack(">I", 2))


def _empty_data(wire: Wire) -> None:
    wire.begin()
    wire.flood(frame(0, 0, 1))


_CASES = [
    Case("takes no connection", lambda wire: time.sleep(20), LATE + GONE, accepts=False),
    Case("says nothing", lambda wire: wire.wait(), LATE + GONE),
    Case("drips its settings", drip(frame(4, 0, 0, bytes(6000))), LATE + GONE),
    Case("HTTP/1", lambda wire: wire.send(b"HTTP/1.1 200 OK\r\n\r\n"), GONE),
    Case("noise without end", lambda wire: wire.flood(bytes(range(256))), GONE),
    Case("TLS is spoken", lambda wire: wire.flood(b"\x16\x03\x03\x00\x05abcde"), GONE),
    Case("closes at once", lambda wire: None, GONE, connections=5),
    Case("closes in the call", lambda wire: wire.call(), GONE, connections=5),
    Case("takes the call and says nothing", called(lambda wire: None), LATE),
    Case("goes away", called(lambda wire: wire.frame(7, 0, 0, bytes(8))), GONE + LATE, connections=5),
    Case("resets the call", called(_reset_call), _BROKEN, connections=5),
    Case("a head and nothing more", called(lambda wire: wire.begin()), LATE),
    Case("heads without end", called(_many_heads), _ODD, connections=5),
    Case("metadata without end", called(_continued), _ODD, connections=5),
    # gRPC turns metadata between its soft and its hard limit away by chance; what passes is a call without a message.
    Case("metadata of 16 kB", ends(_OK, (b"x", b"y" * 16_000)), (*_ODD, *NO_RECORD), connections=5),
    Case("a message of 4 GiB", answers(b"", length=(1 << 32) - 1), BIG),
    Case("a message over the limit", answers(_prediction(5 << 20)), BIG),
    Case("a message that drips", called(_drips_message), LATE),
    Case("a message without room", called(_flood_of_data), _ODD, connections=5),
    Case("empty data without end", called(_empty_data), _ODD, connections=5),
    Case("a gzip bomb", called(_unpacks), _BROKEN),
    Case("a message that is none", answers(b"\xff" * 100), NO_RECORD),
    Case("two messages", called(_two_messages), _BROKEN),
    Case("no message", ends(_OK), _BROKEN),
    Case("a status that there is not", ends(4711), GONE),
    Case("words of control characters", ends(_INTERNAL, (b"grpc-message", b"%1B[2J%FF%00")), ("internal",)),
    Case("retry after 10^9 s", ends(_EXHAUSTED, (b"retry-after", b"%d" % FAR)), ("overloaded",), retry_s=30),
    Case("retry after rubbish", ends(_UNAVAILABLE, (b"retry-after", b"soon")), GONE + LATE, retry_s=30),
    # What carries nothing for the call is read and dropped by gRPC itself, for as long as the call has time.
    Case("pings without end", flooded(frame(6, 0, 0, bytes(8))), _ODD, bounded=False),
    Case("settings without end", flooded(frame(4)), _ODD, bounded=False),
    Case("unknown frames without end", flooded(frame(99, 0, 0, bytes(16_000))), _ODD, bounded=False),
]  # fmt: skip
GRPC = [replace(case, way="grpc") for case in _CASES]
