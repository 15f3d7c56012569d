"""Connections to TorchServe: which are used again, and that no reply ever goes to another request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import pytest

from servekit.front.upstream import Ask, Gone, Headers, Upstream
from support.fronts import in_a_loop_of_its_own

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n%02d"
CHUNKS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n%02d\r\n0\r\n\r\n"
REFUSED = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n%02d"
END = b""


class Inner:
    """A server that answers the n-th request with the n-th reply, with its number in it, and then may hang up.

    Args:
        replies: bytes with a place for the number; `END` hangs up without a word.
        hangs_up: after each reply.
    """

    def __init__(self, replies: Sequence[bytes], *, hangs_up: bool = False) -> None:
        self._replies, self._hangs_up = replies, hangs_up
        self.asked: list[int] = []
        """The connection of each request."""
        self._connections = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection."""
        self._connections += 1
        mine = self._connections
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await self._serve(reader, writer, mine)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mine: int) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            self.asked.append(mine)
            reply = self._replies[len(self.asked) - 1]
            if reply is END:
                break
            writer.write(reply % len(self.asked))
            if b"Content-Length: 9" in head:  # a large one, answered before it is there
                return
            await reader.readexactly(1 if b"POST" in head else 0)
            if self._hangs_up:
                break


async def ask(upstream: Upstream, method: str = "POST", pieces: Sequence[bytes] = (b"x",)) -> bytes:
    """The body of the reply."""
    body = b""

    async def on_head(status: int, headers: Headers) -> None:
        assert status in (200, 400)

    async def on_piece(data: bytes) -> None:
        nonlocal body
        body += data

    await upstream.exchange(Ask(method, "/", [], pieces if method == "POST" else ()), on_head, on_piece)
    await asyncio.sleep(0.05)  # whatever comes late
    return body


def asked(inner: Inner, *asks: tuple[str, Sequence[bytes]]) -> list[bytes]:
    """The bodies of the replies to these requests, one after another."""

    async def run() -> list[bytes]:
        async with await asyncio.start_server(inner.connected, "127.0.0.1", 0) as server:
            upstream = Upstream("127.0.0.1", server.sockets[0].getsockname()[1])
            return [await ask(upstream, method, pieces) for method, pieces in asks]

    return in_a_loop_of_its_own(run())


ONE = ("POST", (b"x",))


@pytest.mark.parametrize(
    ("replies", "connections"),
    [
        ([OK] * 3, [1, 1, 1]),
        ([CHUNKS, OK, OK], [1, 2, 2]),
        ([REFUSED, OK, OK], [1, 2, 2]),
        ([OK + b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong", OK, OK], [1, 2, 2]),
        ([OK, END, OK], [1, 1, 2]),
    ],
    ids=["kept", "stream", "error", "a second reply", "hung up under the next"],
)
def test_only_a_whole_reply_alone_leaves_a_connection_for_the_next(
    replies: list[bytes], connections: list[int]
) -> None:
    inner = Inner(replies)
    answered = asked(inner, *[ONE] * (3 - replies.count(END)))
    assert inner.asked == connections
    assert answered == [b"%02d" % number for number, reply in enumerate(replies, 1) if reply is not END]


def test_a_connection_that_was_closed_while_idle_is_not_used() -> None:
    inner = Inner([OK] * 3, hangs_up=True)
    assert asked(inner, ONE, ONE, ONE) == [b"01", b"02", b"03"]
    assert inner.asked == [1, 2, 3]


def test_a_reply_to_head_may_have_a_body() -> None:
    inner = Inner([OK, OK])
    assert asked(inner, ("HEAD", ()), ONE) == [b"", b"02"]
    assert inner.asked == [1, 2]


def test_an_early_reply_to_a_large_request_ends_its_connection() -> None:
    inner = Inner([OK, OK])
    assert asked(inner, ("POST", (bytes(8_000_000), bytes(1_000_000 + 999))), ONE) == [b"01", b"02"]
    assert inner.asked == [1, 2]


def test_a_server_that_hangs_up_on_a_new_connection_is_gone() -> None:
    with pytest.raises(Gone):
        asked(Inner([END, OK]), ONE)
