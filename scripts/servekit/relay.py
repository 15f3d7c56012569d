"""Bytes through the gate over HTTP: bodies and replies, passed on piece by piece, with an end to all waiting.

Flow: a client's body -> `send_body` -> TorchServe; TorchServe's reply -> `pass_reply` -> the client -> `finish`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator

from llava_wire.errors import RequestError

BODY_S = 120.0
"""How long the body of one request may take in all."""
STALL_S = 30.0
"""How long a client may neither send nor take a byte that is waited for."""
_LINGER_S = 5.0
_PIECE_BYTES = 65_536
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[\x20-\x7e\t]*)?\r\n")


async def send_body(reader: asyncio.StreamReader, forth: asyncio.StreamWriter, size: int | None) -> None:
    """Passes a body of so many bytes, or of chunks (None), on to TorchServe, and nothing that follows it.

    Raises:
        TimeoutError: the client was too slow.
        EOFError: it left before the end.
        ValueError: what it sent are no chunks.
    """
    async with asyncio.timeout(BODY_S):
        pieces = _pieces(reader, size)
        while True:
            async with asyncio.timeout(STALL_S):
                piece = await anext(pieces, None)
            if piece is None:
                return
            try:
                forth.write(piece)
                await forth.drain()
            except ConnectionError:
                return  # TorchServe had enough of it: its reply says why.


async def _pieces(reader: asyncio.StreamReader, size: int | None) -> AsyncIterator[bytes]:
    """A body as TorchServe gets it: chunks made anew, without extensions and trailers."""
    if size is not None:
        while size > 0:
            piece = await reader.read(min(_PIECE_BYTES, size))
            if not piece:
                raise EOFError
            size -= len(piece)
            yield piece
        return
    while length := await _chunk_bytes(reader):
        yield f"{length:x}\r\n".encode()
        async for piece in _pieces(reader, length):
            yield piece
        if await reader.readexactly(2) != b"\r\n":
            raise ValueError
        yield b"\r\n"
    with contextlib.suppress(asyncio.LimitOverrunError):
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    yield b"0\r\n\r\n"


async def _chunk_bytes(reader: asyncio.StreamReader) -> int:
    try:
        match = _CHUNK.fullmatch(await reader.readuntil(b"\r\n"))
    except asyncio.LimitOverrunError:
        match = None
    if match is None:
        raise ValueError
    return int(match[1], 16)


async def pass_reply(back: asyncio.StreamReader, writer: asyncio.StreamWriter, *, without_body: bool) -> None:
    """Passes a reply on, and tells the client in its head that the connection ends with it."""
    with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        interim = True
        while interim:
            line, *headers = (await back.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n").split(b"\r\n")
            interim = line.split(b" ")[1][:1] == b"1"
            headers = [header for header in headers if not header.lower().startswith((b"connection:", b"keep-alive:"))]
            writer.write(b"\r\n".join([line, *headers, *([] if interim else [b"connection: close"])]) + b"\r\n\r\n")
        sizes = [
            value for name, _, value in (one.partition(b":") for one in headers) if name.lower() == b"content-length"
        ]
        most = 0 if without_body else int(sizes[0]) if sizes else None
        while most is None or most > 0:
            piece = await back.read(_PIECE_BYTES if most is None else min(_PIECE_BYTES, most))
            if not piece:
                return
            most = None if most is None else most - len(piece)
            writer.write(piece)
            async with asyncio.timeout(STALL_S):
                await writer.drain()


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, error: RequestError) -> None:
    """Answers in TorchServe's place."""
    body = json.dumps(error.to_body()).encode()
    head = f"HTTP/1.1 {error.status} \r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    writer.write(head.encode() + b"connection: close\r\n\r\n" + body)
    await finish(reader, writer)


async def finish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ends the reply, and reads on for a moment: closing over unread bytes would cost the client the reply."""
    async with asyncio.timeout(STALL_S):
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while await reader.read(_PIECE_BYTES):
                pass


async def close(writer: asyncio.StreamWriter) -> None:
    """Closes a connection; what a client does not take in time is lost to it, and no memory is held for it."""
    with contextlib.suppress(OSError, ssl.SSLError):
        writer.close()
        async with asyncio.timeout(STALL_S):
            await writer.wait_closed()
            return
    writer.transport.abort()
