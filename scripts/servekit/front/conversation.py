"""One client's connection over HTTP: heads and bodies that must come in time, replies that must be taken in time.

Flow: `head` -> `body` -> `reply_head`, `reply_piece`..., `reply_end` (or `reply`, `refuse`) -> `next`.
h11 takes requests apart and puts replies together; what is read in two ways elsewhere is refused here.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import h11

from llava_wire.errors import RequestError
from servekit.front import closing, refusals

HEAD_S = 30.0
"""How long a request's head may take, from the connection's beginning or the last reply on."""
BODY_S = 120.0
"""How long the body of one request may take in all."""
REPLY_BYTES_S = 65_536
"""How fast, in bytes a second, a client has to take a long reply, after `BODY_S`."""
_HEAD_BYTES = 32_768
_MOST_HEADERS = 100
_PIECE_BYTES = 262_144


class Conversation:
    """A connection; `reader` and `writer` are its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        self._is_lost = False
        self._is_head = False
        self._unsent = b""

    async def head(self) -> h11.Request | None:
        """The next request's head; None when the client leaves, or lets its time pass, before it began one.

        Raises:
            RequestError: what came is none, or it did not come in time.
        """
        try:
            async with asyncio.timeout(HEAD_S):
                event = await self._event()
        except TimeoutError:
            if self._http.trailing_data[0]:
                raise refusals.not_a_request("its head did not arrive in time") from None
            return None
        if not isinstance(event, h11.Request):
            return None
        self._is_head = event.method == b"HEAD"
        names = [name for name, _ in event.headers]
        if not event.target.startswith(b"/"):
            raise refusals.not_a_request("its target is no path")
        if event.http_version not in (b"1.0", b"1.1"):
            raise refusals.not_a_request("its version is not 1.0 or 1.1")
        if len(names) > _MOST_HEADERS or sum(len(name) + len(value) for name, value in event.headers) > _HEAD_BYTES:
            raise refusals.not_a_request(f"more than {_MOST_HEADERS} headers or {_HEAD_BYTES} bytes of them")
        # Of two lengths nobody could say where the request ends; HTTP/1.0 knows no chunks.
        sizes = names.count(b"content-length") + names.count(b"transfer-encoding")
        if sizes > 1 or (b"transfer-encoding" in names and event.http_version != b"1.1"):
            raise refusals.not_a_request("a body of unclear length")
        self._sizes = [value for name, value in event.headers if name == b"content-length"]
        self._is_chunked = b"transfer-encoding" in names
        return event

    def announced(self) -> int | None:
        """The body's size as the head says it, in bytes; None for one in chunks."""
        return None if self._is_chunked else int(self._sizes[0]) if self._sizes else 0

    async def body(self, limit: int) -> list[bytes]:
        """The request's body, in pieces.

        Raises:
            RequestError: it is larger than the limit, no body, or too slow.
        """
        if self._http.they_are_waiting_for_100_continue:
            self._write(h11.InformationalResponse(status_code=100, headers=[]))
        pieces, size = [], 0
        try:
            async with asyncio.timeout(BODY_S):
                while isinstance(event := await self._event(), h11.Data):
                    size += len(event.data)
                    if size > limit:
                        raise refusals.too_large(limit)
                    pieces.append(bytes(event.data))
        except TimeoutError:
            raise refusals.too_slow(BODY_S) from None
        if not isinstance(event, h11.EndOfMessage):
            raise EOFError
        return pieces

    async def reply_head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Begins a reply."""
        self._ends = asyncio.get_running_loop().time() + BODY_S
        self._taken = 0
        self._unsent = self._http.send(h11.Response(status_code=status, headers=list(headers))) or b""
        # With the first piece in one packet, unless that one keeps the head waiting.
        asyncio.get_running_loop().call_soon(self._flush)

    async def reply_piece(self, data: bytes) -> None:
        """Sends a piece; to a client that left, or takes too long, nothing is sent any more."""
        self._taken += len(data)
        if not self._is_head:
            self._write(h11.Data(data=data))
        if self._is_lost:
            return
        now = asyncio.get_running_loop().time()
        ends = self._ends + self._taken / REPLY_BYTES_S
        try:
            async with asyncio.timeout(max(0.0, min(closing.STALL_S, ends - now))):
                await self.writer.drain()
        except (OSError, ssl.SSLError):  # TimeoutError is an OSError
            self._is_lost = True
            self.writer.transport.abort()

    async def reply_end(self) -> None:
        """Ends a reply and waits until the client has taken it, as far as buffers do not hold it."""
        self._write(h11.EndOfMessage())
        if self._is_lost:
            raise EOFError
        async with asyncio.timeout(closing.STALL_S):
            await self.writer.drain()

    async def reply(self, status: int, said: Mapping[str, Any], *, is_last: bool = False) -> None:
        """A whole reply of JSON."""
        body = json.dumps(said).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
        headers += [("Retry-After", str(refusals.RETRY_S))] if status == 503 else []
        headers += [("Connection", "close")] if is_last else []
        await self.reply_head(status, [(name.encode(), value.encode()) for name, value in headers])
        await self.reply_piece(body)
        await self.reply_end()

    async def refuse(self, error: RequestError) -> bool:
        """Answers with an error, where no reply has begun, and says that nothing follows on this connection."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self.reply(error.status, error.to_body(), is_last=True)
        return False

    def next(self) -> bool:
        """Whether another request may follow."""
        if self._is_lost or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def _event(self) -> Any:
        """The next part of the request."""
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise refusals.not_a_request(str(error)[:200]) from None
            if event is not h11.NEED_DATA:
                return event
            async with asyncio.timeout(closing.STALL_S):
                self._http.receive_data(await self.reader.read(_PIECE_BYTES))

    def _write(self, event: Any) -> None:
        self._send(self._http.send(event) or b"")

    def _flush(self) -> None:
        self._send(b"")

    def _send(self, data: bytes) -> None:
        """Sends what is unsent, and more; nothing to a client that left."""
        data, self._unsent = self._unsent + data, b""
        if data and not self._is_lost:
            try:
                closing.write(self.writer, data)
            except ConnectionResetError:
                self._is_lost = True
