"""Many HTTP connections at once from one thread, with bytes that exist already.

Flow: `Connection`s (bytes to send, whether they are a whole request) -> asyncio on bare sockets -> `Seen` of each.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from stress.crowding.replies import CLOSED, LEFT_OPEN, NO_CONNECTION, NO_REPLY, Seen, http_word

_CHUNK_BYTES = 1 << 18
_HEAD_BYTES = 1 << 16


@dataclass(frozen=True)
class Connection:
    """What one connection sends.

    Args:
        pieces: bytes, sent one after the other; nothing is copied.
        whole: whether a reply is due; otherwise the connection waits until the server ends it.
    """

    pieces: tuple[bytes, ...] = field(repr=False)
    whole: bool = True


def post(path: str, kind: str, body_bytes: int, key: str | None) -> bytes:
    """The head of a POST.

    Args:
        path: with the leading slash.
        kind: the body's content type; body_bytes: its announced length.
        key: the bearer token; None for none.
    """
    lines = [f"POST {path} HTTP/1.1", "Host: crowd", f"Content-Type: {kind}", f"Content-Length: {body_bytes}"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def send_all(address: tuple[str, int], crowd: Sequence[Connection], patience_s: float) -> list[Seen]:
    """Opens all connections at once and waits for what becomes of each.

    Args:
        address: host and port.
        crowd: one entry a connection.
        patience_s: seconds after which one counts as without a reply, or as left open.
    """
    return await asyncio.gather(*(_one(address, connection, patience_s) for connection in crowd))


async def _one(address: tuple[str, int], connection: Connection, patience_s: float) -> Seen:
    begin = time.monotonic()
    word = NO_REPLY if connection.whole else LEFT_OPEN
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock, contextlib.suppress(TimeoutError):
        sock.setblocking(False)
        async with asyncio.timeout(patience_s):
            word = await _exchange(sock, address, connection)
    return Seen(word, round(time.monotonic() - begin, 2))


async def _exchange(sock: socket.socket, address: tuple[str, int], connection: Connection) -> str:
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(sock, address)
    except OSError:
        return NO_CONNECTION
    sending = asyncio.create_task(_send(sock, connection.pieces))
    try:
        return await _reply(sock)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _send(sock: socket.socket, pieces: Sequence[bytes]) -> None:
    """Sends until the server takes no more; what it said is read all the same."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        for piece in pieces:
            await loop.sock_sendall(sock, piece)


async def _reply(sock: socket.socket) -> str:
    """The word for the reply, read to its end."""
    loop, received = asyncio.get_running_loop(), bytearray()
    while b"\r\n\r\n" not in received:
        try:
            chunk = await loop.sock_recv(sock, _CHUNK_BYTES)
        except OSError:
            chunk = b""
        if not chunk or len(received) > _HEAD_BYTES:
            return CLOSED
        received += chunk
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    status = first.split(" ")[1] if first.startswith("HTTP/") and " " in first else ""
    if not status.isdigit():
        return "no HTTP"
    if status == "200" and not await _whole(sock, headers, body):
        return "an answer cut off"
    return http_word(int(status), headers)


async def _whole(sock: socket.socket, headers: dict[str, str], body: bytes) -> bool:
    """Whether the rest of the body comes; its bytes are thrown away."""
    loop = asyncio.get_running_loop()
    length = headers.get("content-length")
    left = int(length) - len(body) if length is not None else -1
    end = body[-8:]
    while left > 0 or (length is None and not end.endswith(b"0\r\n\r\n")):
        try:
            chunk = await loop.sock_recv(sock, _CHUNK_BYTES)
        except OSError:
            return False
        if not chunk:
            return False
        left, end = left - len(chunk), (end + chunk)[-8:]
    return True
