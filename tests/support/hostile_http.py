"""What hostile servers do over HTTP, one function each, and what a client must make of it.

Flow: `HTTP`, a table of `Case`s -> a `HostileServer` for each.
"""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from support.hostile import Wire

OK = b"HTTP/1.1 200 OK\r\n"
LINES = b"Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
FAR = 10**9


@dataclass(frozen=True)
class Case:
    """One behaviour.

    Args:
        name: in words.
        behave: what the server does with a connection.
        codes: the code of the error, any of them; "record" for a RecordError.
        way: "http", "https", "stream" (over HTTP) or "grpc".
        large: whether the picture is larger than what sockets hold.
        accepts: whether the server takes connections.
        retry_s: the client's patience.
        connections: how many the client may make.
        bounded: whether what the client takes is bounded in bytes.
    """

    name: str
    behave: Callable[[Wire], None]
    codes: tuple[str, ...]
    way: str = "http"
    large: bool = False
    accepts: bool = True
    retry_s: float = 0.0
    connections: int = 1
    bounded: bool = True

    @property
    def timeout_s(self) -> float:
        """The client's time: what does not end by itself ends soon, everything else does not end by it."""
        return 0.6 if "deadline" in self.codes else 10.0


def after(reply: bytes, then: Callable[[Wire], None] | None = None) -> Callable[[Wire], None]:
    """Reads the request, sends a reply, goes on with something, and closes the connection."""

    def behave(wire: Wire) -> None:
        wire.request()
        wire.send(reply)
        if then is not None:
            then(wire)

    return behave


def flood(data: bytes) -> Callable[[Wire], None]:
    """Sends it without end."""
    return lambda wire: wire.flood(data)


def drip(data: bytes) -> Callable[[Wire], None]:
    """Sends it byte by byte without end."""
    return lambda wire: wire.drip(data)


def whole(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """A reply with its length."""
    head = b"".join(header + b"\r\n" for header in headers)
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n" % (status, head, len(body)) + body


def chunk(data: bytes) -> bytes:
    """A chunk of a body."""
    return b"%x\r\n" % len(data) + data + b"\r\n"


def packed(size_bytes: int, times: int = 1) -> bytes:
    """Zeros, compressed once or several times over."""
    data = bytes(size_bytes)
    for _ in range(times):
        data = gzip.compress(data, 1)
    return data


def _never_reads(wire: Wire) -> None:
    time.sleep(20)


def _reset(wire: Wire) -> None:
    wire.request()
    wire.send(OK + b"Content-Length: 1000\r\n\r\nsome")
    time.sleep(0.05)
    wire.reset()


def _half_a_request(wire: Wire) -> None:
    wire.read(100)
    wire.reset()


def _sluggish(wire: Wire) -> None:
    while True:
        wire.read(200)
        time.sleep(0.05)


def _busy(retry_after: bytes) -> Callable[[Wire], None]:
    return after(whole(b"full", b"Retry-After: " + retry_after, status=b"503 Busy"))


GONE = ("unavailable",)
LATE = ("deadline",)
BIG = ("too_large",)
NO_RECORD = ("record",)
ELSEWHERE = ("not_found",)
PACKED = b"Content-Encoding: gzip"
ZEROS = bytes(1000)
HINTS = b"HTTP/1.1 103 Hints\r\nLink: <" + b"x" * 4000 + b">\r\n\r\n"


def _full(retry_after: bytes, codes: tuple[str, ...], connections: int = 1) -> Case:
    reply = whole(b"full", b"Retry-After: " + retry_after, status=b"503 Busy")
    return Case(f"retry after {retry_after!r:.20}", after(reply), codes, retry_s=30, connections=connections)


def _goes_to(place: bytes) -> Case:
    reply = whole(b"", b"Location: " + place, status=b"302 Found")
    return Case(f"a redirect to {place.decode()}", after(reply), ELSEWHERE, retry_s=9)


def _answers_first(wire: Wire) -> None:
    wire.send(whole(b"{}"))
    _never_reads(wire)


def _refuses(message: bytes) -> Callable[[Wire], None]:
    return after(whole(b'{"error": {"code": "invalid", "field": "image", "message": %b}}' % message, status=b"422 No"))


TIME = [
    Case("takes no connection", _never_reads, LATE, accepts=False),
    Case("says nothing", lambda wire: wire.wait(), LATE),
    Case("drips its first line", after(b"", drip(b"HTTP/1.1 200 " + b"O" * 60_000)), LATE),
    Case("drips headers", after(OK, drip(b"X-Slow: yes\r\n")), LATE),
    Case("100 Continue now and then", after(b"", drip(b"HTTP/1.1 100 Continue\r\n\r\n")), LATE),
    Case("a body that drips", after(OK + b"Content-Length: 1000000\r\n\r\n", drip(b"x")), LATE),
    Case("a refusal that drips", after(b"HTTP/1.1 401 No\r\n\r\n", drip(b"no ")), LATE),
    Case("an answer before a large request", _answers_first, (*LATE, *GONE, "record"), large=True),
    Case("never reads a large request", _never_reads, LATE, large=True),
    Case("reads a large request slowly", _sluggish, LATE, large=True),
    Case("TLS: says nothing", lambda wire: wire.wait(), GONE + LATE, way="https"),
    Case("TLS: drips its hello", drip(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc"), GONE + LATE, way="https"),
    _full(b"%d" % FAR, ("overloaded",)),
    _full(b"Fri, 31 Dec 9999 23:59:59 GMT", ("overloaded",)),
    _full(b"-5", GONE + LATE, 9),
    _full(b"0", ("overloaded", *LATE), 9),
    _full(b"\xff" * 900, GONE + LATE, 9),
]  # fmt: skip
SIZE = [
    Case("100 Continue without end", after(b"", flood(b"HTTP/1.1 100 Continue\r\n\r\n")), BIG + LATE),
    Case("103 Early Hints without end", after(b"", flood(HINTS)), BIG),
    Case("chunks of long names", after(OK + LINES, flood(b"1;" + b"x" * 4000 + b"\r\nx\r\n")), BIG),
    Case("one header without end", after(OK + b"X: ", flood(b"x")), GONE),
    Case("headers without end", after(OK, flood(b"X: y\r\n")), GONE),
    Case("a body without end", after(OK + b"\r\n", flood(ZEROS)), BIG),
    Case("10^15 bytes", after(OK + b"Content-Length: 1%015d\r\n\r\n" % 0, flood(ZEROS)), BIG),
    Case("chunks without end", after(OK + LINES, flood(chunk(ZEROS))), BIG),
    Case("tiny chunks without end", after(OK + LINES, flood(chunk(b"x"))), BIG + LATE),
    Case("a chunk of 10^20 bytes", after(OK + LINES + b"5%019x\r\n" % 0, flood(ZEROS)), BIG + GONE),
    Case("a chunk's name without end", after(OK + LINES + b"1;", flood(b"x")), GONE),
    Case("trailers without end", after(OK + LINES + b"0\r\n", flood(b"X: y\r\n")), GONE),
    Case("a gzip bomb", after(whole(packed(64 << 20), PACKED)), BIG),
    Case("a gzip bomb in a refusal", after(whole(packed(64 << 20), PACKED, status=b"500 No")), ("internal",)),
    Case("a refusal without end", after(b"HTTP/1.1 401 No\r\n\r\n", flood(b"no ")), ("unauthorized",)),
    Case("another protocol", after(b"HTTP/1.1 101 Go\r\nUpgrade: x\r\n\r\n", flood(ZEROS)), GONE),
    Case("noise without end", flood(bytes(range(256))), GONE),
    Case("TLS: noise", flood(b"\x16\x03\x03\x00\x05abcde"), GONE, way="https"),
]  # fmt: skip
FORM = [
    Case("gzip within gzip", after(whole(packed(64 << 20, 2), b"Content-Encoding: gzip, gzip")), GONE),
    Case("an encoding that nobody asked for", after(whole(b"abc", b"Content-Encoding: br")), GONE),
    Case("damaged gzip", after(whole(b"\x1f\x8b\x08" + bytes(60), PACKED)), GONE),
    Case("half of gzip", after(whole(packed(9999)[:-9], PACKED)), GONE),
    Case("a chunk of size zz", after(OK + LINES + b"zz\r\nabc\r\n"), GONE),
    Case("fewer bytes than promised", after(OK + b"Content-Length: 99\r\n\r\nabc"), GONE),
    Case("two lengths", after(OK + b"Content-Length: 3\r\nContent-Length: 9\r\n\r\nabcabcabc"), GONE),
    Case("a length below zero", after(OK + b"Content-Length: -1\r\n\r\nabc"), GONE),
    Case("a length of 10^5000", after(OK + b"Content-Length: 1" + b"0" * 5000 + b"\r\n\r\nabc"), GONE),
    Case("a status of six digits", after(b"HTTP/1.1 200000 OK\r\n\r\n"), GONE),
    Case("HTTP/0.9", after(b"<html>hello</html>\n"), GONE),
    Case("noise", after(bytes(range(256)) * 40), GONE),
    Case("an answer before the request", lambda wire: wire.send(whole(b"{}")), (*GONE, "record")),
    Case("closes at once", lambda wire: None, GONE),
    Case("closes in the request", _half_a_request, GONE, large=True),
    Case("closes after the request", after(b""), GONE),
    Case("closes in the head", after(b"HTTP/1.1 200 OK\r\nContent-"), GONE),
    Case("resets in the body", _reset, GONE),
    Case("a page", after(whole(b"<html>hello", b"Content-Type: text/html")), NO_RECORD),
    Case("a page whose type is a lie", after(whole(b"<html>", b"Content-Type: application/x-npz")), NO_RECORD),
    Case("no content", after(b"HTTP/1.1 204 No Content\r\n\r\n"), GONE),
    Case("an error nested without end", after(whole(b'{"error": ' + b"[" * 99_999, status=b"422 No")), ("invalid",)),
    Case("an error nested deeply", _refuses(b"[" * 600 + b"]" * 600), ("invalid",)),
    Case("an error of control characters", _refuses(b'"\\u001b[2J\\ud800"'), ("invalid",)),
    Case("TLS: plain HTTP", lambda wire: wire.send(whole(b"{}")), GONE, way="https"),
    _goes_to(b"http://192.0.2.1/"), _goes_to(b"file:///etc/passwd"), _goes_to(b"/predictions/llava-shapes"),
]  # fmt: skip


def token(**changes: Any) -> bytes:
    """A line of a stream with one token and one view of 2 x 2 patches, changed."""
    view = {
        "axes": ["row", "col"], "dtype": "|u1", "shape": [2, 2], "encoding": "sqrt-u8", "scales": 0.1,
        "shares": [0.1, 0.2, 0.3, 0.4], "maps_base64": "AQEBAQ==",
        **{key: value for key, value in changes.items() if key not in ("step", "type")},
    }  # fmt: skip
    one = {"id": 1, "piece": "A", "text": "A", "logprob": -0.1, "top": [], "special": False}
    line = {"type": "token", "step": changes.get("step", 0), "token": one, "views": {"mean": view}}
    # Numbers that JSON has and floats have not are written by hand.
    return json.dumps(line).replace('"HUGE"', "1" + "0" * 400).replace('"INFINITE"', "1e999").encode() + b"\n"


def says(*lines: bytes) -> Callable[[Wire], None]:
    """A stream of these lines, and its end."""
    return after(OK + LINES + b"".join(map(chunk, lines)) + b"0\r\n\r\n")


def _drips_lines(wire: Wire) -> None:
    wire.request()
    wire.send(OK + LINES)
    for step in range(10_000):
        wire.send(chunk(token(step=step)))
        time.sleep(0.1)


def _packed_lines(data: bytes) -> Callable[[Wire], None]:
    return after(OK + PACKED + b"\r\n" + LINES + chunk(data))


_NAN = {"dtype": "<f4", "encoding": "float32", "shape": [1, 1], "maps_base64": "AADAfw=="}
_STREAMS = [
    Case("scales of 10^400", says(token(scales="HUGE")), NO_RECORD),
    Case("infinite scales", says(token(scales="INFINITE")), NO_RECORD),
    Case("a shape of infinity", says(token(shape=["INFINITE", 2])), NO_RECORD),
    Case("a shape of 10^400", says(token(shape=["HUGE", "HUGE"])), NO_RECORD),
    Case("an empty shape of many sides", says(token(shape=[0] * 40, maps_base64="")), NO_RECORD),
    Case("infinite shares", says(token(shares=["INFINITE"] * 4)), NO_RECORD),
    Case("shares that are no numbers", says(token(shares=[None, {}, "x", []])), NO_RECORD),
    Case("maps that are no numbers", says(token(**_NAN)), NO_RECORD),
    Case("a step that is false", says(token(step=False)), NO_RECORD),
    Case("a step of 10^400", says(token(step="HUGE")), NO_RECORD),
    Case("objects for names", says(token(dtype={"a": 1}, shape="22")), NO_RECORD),
    Case("lists in lists", says(b"[" * 200_000 + b"\n"), NO_RECORD),
    Case("a million lists", says(b"[" + b"[]," * 1_100_000 + b"0]\n"), NO_RECORD),
    Case("a line without end", after(OK + LINES, flood(chunk(b"x" * 1000))), BIG),
    Case("lines without end", after(OK + LINES, flood(chunk(b"{}\n"))), NO_RECORD),
    Case("a gzip bomb of lines", _packed_lines(packed(64 << 20)), BIG),
    Case("damaged gzip lines", _packed_lines(zlib.compress(b"x")), GONE),
    Case("tokens without end", _drips_lines, LATE),
    Case("a token and then nothing", after(OK + LINES + chunk(token()), lambda wire: wire.wait()), LATE),
    Case("a token and then a break", after(OK + LINES + chunk(token())), GONE),
    Case("an end without a record", says(token()), GONE),
]  # fmt: skip
HTTP = [*TIME, *SIZE, *FORM, *(replace(case, way="stream") for case in _STREAMS)]
