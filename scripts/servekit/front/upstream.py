"""TorchServe's HTTP port from the front: one request with its whole body on a connection, the reply as it comes.

Flow: `Ask` -> `Upstream.exchange` -> the reply's head to `on_head`, its pieces to `on_piece`. A request that TorchServe
has is followed to the end of its reply even when nobody wants it any more: until then its bytes are in TorchServe's
memory. A connection is kept for the next request when this one ended as it should.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import h11

from servekit.front.closing import close, write

PIECE_BYTES = 262_144
_ONE_PACKET_BYTES = 65_536
REPLY_S = 3600.0
"""No model's own time limit is longer; TorchServe ends its workers long before."""
_IDLE = 16
"""Connections without a request that stay open."""

Headers = Sequence[tuple[bytes, bytes]]
OnHead = Callable[[int, Headers], Awaitable[None]]
OnPiece = Callable[[bytes], Awaitable[None]]


class Gone(Exception):
    """TorchServe does not listen, or ended in the middle."""


class _Closed(Gone):
    """A connection that ended before anything of the reply came."""


@dataclass(frozen=True)
class Ask:
    """One request as TorchServe gets it; `headers` without any about the connection or the body's length."""

    method: str
    target: str
    headers: Headers
    pieces: Sequence[bytes] = ()


class _Connection:
    """One connection to TorchServe; while no request is on it, whatever it says or its end makes it of no use."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=65_536)
        self._idle: asyncio.Task[bytes] | None = None

    async def exchange(self, ask: Ask, on_head: OnHead, on_piece: OnPiece) -> bool:
        """One request and its reply; whether another may follow.

        Raises:
            Gone: there is no reply, or it ends too early.
        """
        first, *rest = self._pieces(ask)
        self._replied, self._may_follow = False, False
        try:
            write(self._writer, first)
            if rest:
                is_sent = await _during(self._send(rest), self._receive(on_head, on_piece))
            else:
                is_sent = await self._receive(on_head, on_piece)
        except (OSError, EOFError, h11.RemoteProtocolError):
            raise (Gone if self._replied else _Closed) from None
        is_whole = self._http.our_state is self._http.their_state is h11.DONE and not self._http.trailing_data[0]
        return is_sent and is_whole and self._may_follow

    def rest(self) -> None:
        """Begins to wait for the next request."""
        self._http.start_next_cycle()
        self._idle = asyncio.create_task(self._reader.read(1))

    async def wake(self) -> bool:
        """Ends the wait; whether the connection is of use."""
        if self._idle is None or self._idle.done():
            return False
        self._idle.cancel()
        await asyncio.gather(self._idle, return_exceptions=True)
        return self._idle.cancelled()

    async def close(self) -> None:
        """Closes it."""
        await close(self._writer)

    def _pieces(self, ask: Ask) -> list[bytes]:
        """The request's bytes; a small one in one piece, and so in one packet."""
        size = sum(map(len, ask.pieces))
        # A reply to HEAD may have a body after all: it could be taken for the next reply.
        last = [] if ask.method == "POST" else [(b"Connection", b"close")]
        headers = [(b"Host", b"front"), *last, *ask.headers]
        headers += [(b"Content-Length", b"%d" % size)] if size or ask.method not in ("GET", "HEAD") else []
        head = self._http.send(h11.Request(method=ask.method, target=ask.target, headers=headers)) or b""
        for piece in ask.pieces:
            self._http.send(h11.Data(data=piece))  # for its length alone: the bytes are the piece's own
        self._http.send(h11.EndOfMessage())
        return [head + b"".join(ask.pieces)] if size < _ONE_PACKET_BYTES else [head, *ask.pieces]

    async def _send(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            write(self._writer, piece)
            await self._writer.drain()

    async def _receive(self, on_head: OnHead, on_piece: OnPiece) -> bool:
        while True:
            match self._http.next_event():
                case h11.NEED_DATA:
                    data = await self._reader.read(PIECE_BYTES)
                    self._replied |= bool(data)
                    self._http.receive_data(data)
                case h11.Response(status_code=status, headers=headers):
                    # A stream that fails may get a second end, an error anything.
                    self._may_follow = status == 200 and b"content-length" in dict(headers)
                    await on_head(status, list(headers))
                case h11.Data(data=data):
                    await on_piece(bytes(data))
                case h11.EndOfMessage():
                    return True
                case h11.ConnectionClosed():
                    raise EOFError
                case _:
                    pass


async def _during(sending: Coroutine[Any, Any, None], receiving: Awaitable[bool]) -> bool:
    """Receives while it sends, since a reply may come before the request's end; whether all was sent."""
    task = asyncio.create_task(sending)
    try:
        await receiving
        return task.done() and task.exception() is None
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Upstream:
    """The connections to one TorchServe.

    Args:
        host, port: where it listens.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._idle: list[_Connection] = []

    async def exchange(self, ask: Ask, on_head: OnHead, on_piece: OnPiece) -> None:
        """Sends a request and hands on the reply.

        Raises:
            Gone: there is no reply, or it ends too early.
        """
        try:
            async with asyncio.timeout(REPLY_S):
                while self._idle:
                    connection = self._idle.pop()
                    if not await connection.wake():
                        await connection.close()
                        continue
                    # A TorchServe that has just ended took nothing in.
                    with contextlib.suppress(_Closed):
                        return await self._exchange(connection, ask, on_head, on_piece)
                await self._exchange(await self._connect(), ask, on_head, on_piece)
        except OSError:  # TimeoutError is one
            raise Gone from None

    async def _connect(self) -> _Connection:
        return _Connection(*await asyncio.open_connection(self._host, self._port, limit=4 * PIECE_BYTES))

    async def _exchange(self, connection: _Connection, ask: Ask, on_head: OnHead, on_piece: OnPiece) -> None:
        may_follow = False
        try:
            may_follow = await connection.exchange(ask, on_head, on_piece)
        finally:
            if may_follow and len(self._idle) < _IDLE:
                connection.rest()
                self._idle.append(connection)
            else:
                await connection.close()
