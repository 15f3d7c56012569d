"""TorchServe's HTTP port from the front: one connection, one request with its whole body, the reply as it comes.

Flow: `Ask` -> `exchange` -> the reply's head to `on_head`, its pieces to `on_piece`. A request that TorchServe has is
followed to the end of its reply even when nobody wants it any more: until then its bytes are in TorchServe's memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import h11

from servekit.front.closing import close

PIECE_BYTES = 262_144
_ONE_PACKET_BYTES = 65_536
REPLY_S = 3600.0
"""No model's own time limit is longer; TorchServe ends its workers long before."""

Headers = Sequence[tuple[bytes, bytes]]
OnHead = Callable[[int, Headers], Awaitable[None]]
OnPiece = Callable[[bytes], Awaitable[None]]


class Gone(Exception):
    """TorchServe does not listen, or ended in the middle."""


@dataclass(frozen=True)
class Ask:
    """One request as TorchServe gets it; `headers` without any about the connection or the body's length."""

    method: str
    target: str
    headers: Headers
    pieces: Sequence[bytes] = ()


async def exchange(host: str, port: int, ask: Ask, on_head: OnHead, on_piece: OnPiece) -> None:
    """Sends a request and hands on the reply.

    Raises:
        Gone: there is no reply, or it ends too early.
    """
    try:
        reader, writer = await asyncio.open_connection(host, port, limit=4 * PIECE_BYTES)
    except OSError:
        raise Gone from None
    try:
        async with asyncio.timeout(REPLY_S):
            sending = asyncio.create_task(_send(writer, ask))
            try:
                await _receive(reader, ask, on_head, on_piece)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
    except (OSError, EOFError, h11.RemoteProtocolError):  # TimeoutError is an OSError
        raise Gone from None
    finally:
        await close(writer)


async def _send(writer: asyncio.StreamWriter, ask: Ask) -> None:
    size = sum(map(len, ask.pieces))
    lines = [f"{ask.method} {ask.target} HTTP/1.1".encode("latin-1"), b"Host: front", b"Connection: close"]
    lines += [name + b": " + value for name, value in ask.headers]
    lines += [f"Content-Length: {size}".encode()] if size or ask.method not in ("GET", "HEAD") else []
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    first, *rest = ask.pieces or (b"",)
    # A small request in one packet.
    writer.write(head + first if len(first) < _ONE_PACKET_BYTES else head)
    for piece in rest if len(first) < _ONE_PACKET_BYTES else (first, *rest):
        writer.write(piece)
        await writer.drain()


async def _receive(reader: asyncio.StreamReader, ask: Ask, on_head: OnHead, on_piece: OnPiece) -> None:
    reply = h11.Connection(h11.CLIENT, max_incomplete_event_size=65_536)
    # h11 has to know what was asked in order to know whether a body follows; the bytes themselves went out above.
    reply.send(h11.Request(method=ask.method, target=ask.target, headers=[("Host", "front"), ("Connection", "close")]))
    reply.send(h11.EndOfMessage())
    while True:
        match reply.next_event():
            case h11.NEED_DATA:
                reply.receive_data(await reader.read(PIECE_BYTES))
            case h11.Response(status_code=status, headers=headers):
                await on_head(status, list(headers))
            case h11.Data(data=data):
                await on_piece(bytes(data))
            case h11.EndOfMessage():
                return
            case h11.ConnectionClosed():
                raise EOFError
            case _:
                pass
