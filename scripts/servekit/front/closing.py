"""How a connection ends: so that a client gets its last reply, and that none holds anything for long."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

STALL_S = 30.0
"""How long a client may neither send nor take a byte that is waited for."""
LINGER_S = 5.0
_LINGER_BYTES = 64 << 20


def write(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Writes to a connection that may have ended meanwhile.

    Raises:
        ConnectionResetError: it has; asyncio itself would drop the bytes, uvloop raise a RuntimeError.
    """
    if writer.transport.is_closing():
        raise ConnectionResetError
    try:
        writer.write(data)
    except RuntimeError:
        raise ConnectionResetError from None


async def linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ends the replies, and reads on for a moment: closing over unread bytes would cost the client the reply."""
    async with asyncio.timeout(STALL_S):
        await writer.drain()
    if writer.transport.is_closing():
        return
    if writer.can_write_eof():
        writer.write_eof()
    left = _LINGER_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while left > 0 and (piece := await reader.read(262_144)):
                left -= len(piece)


async def close(writer: asyncio.StreamWriter) -> None:
    """Closes a connection; what a client does not take in time is lost to it, and no memory is held for it."""
    with contextlib.suppress(OSError, ssl.SSLError):
        writer.close()
        async with asyncio.timeout(STALL_S):
            await writer.wait_closed()
            return
    writer.transport.abort()
