"""The front over HTTP: connections of strangers, requests with a key, replies as TorchServe gives them.

Flow: connection (counted) -> head (`h11`, in time) -> key -> room for the body -> body (in time) -> its shape ->
room in TorchServe -> the request made anew -> the reply -> the next head of this connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import h11

from llava_wire.errors import RequestError
from llava_wire.system.inner import FORM_HEADER, FORM_TYPE, KEY_HEADER, PROBE_HEADER
from llava_wire.system.multipart import is_multipart
from servekit.front import refusals, upstream
from servekit.front.access import Access
from servekit.front.closing import close, linger
from servekit.front.conversation import Conversation
from servekit.front.health import Health
from servekit.front.limits import CONNECTIONS
from servekit.front.room import Hold, NoRoom, Rooms
from servekit.front.settings import FrontSettings
from servekit.front.shape import check_body, is_urlencoded

_BUFFER_BYTES = 65_536
"""What a connection may send before it is read; twice as much is held."""
_NOT_FORWARDED = {
    b"host", b"authorization", b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"http2-settings",
    b"content-length", b"transfer-encoding", b"expect", b"te", b"trailer", KEY_HEADER.encode(), PROBE_HEADER.encode(),
    FORM_HEADER.encode(),
}  # fmt: skip
_NOT_RETURNED = {b"connection", b"keep-alive", b"proxy-connection"}


class Web:
    """The HTTP side of a front."""

    def __init__(self, settings: FrontSettings, access: Access, rooms: Rooms, health: Health) -> None:
        self._settings = settings
        self._access = access
        self._rooms = rooms
        self._health = health
        self._upstream = upstream.Upstream(settings.host, settings.inner_http)
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, context: ssl.SSLContext | None) -> asyncio.Server:
        """Listens."""
        patience = {"ssl_handshake_timeout": 30.0} if context else {}
        return await asyncio.start_server(
            self.connected,
            self._settings.host,
            self._settings.http,
            ssl=context,
            limit=_BUFFER_BYTES,
            backlog=512,
            **patience,
        )

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A new connection."""
        # As many again may wait for their refusal; whoever comes on top of that gets none.
        if len(self._connections) >= 2 * CONNECTIONS:
            return writer.transport.abort()
        # Held here: asyncio itself lets go of a connection's task when the client leaves.
        is_full = len(self._connections) >= CONNECTIONS
        task = asyncio.create_task(self._serve(Conversation(reader, writer), is_full=is_full))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, client: Conversation, *, is_full: bool) -> None:
        try:
            with contextlib.suppress(OSError, EOFError, ssl.SSLError, h11.LocalProtocolError):
                if is_full:
                    await client.refuse(refusals.full("connections"))
                while not is_full and await self._one(client):
                    pass
                await linger(client.reader, client.writer)
        finally:
            await close(client.writer)

    async def _one(self, client: Conversation) -> bool:
        """One request and its reply; whether another may follow on this connection."""
        try:
            head = await client.head()
            if head is None:
                return False
            await self._answer(client, head)
        except RequestError as error:
            return await client.refuse(error)
        except upstream.Gone:
            return await client.refuse(refusals.gone())
        except NoRoom:
            return await client.refuse(refusals.full("requests"))
        return client.next()

    async def _answer(self, client: Conversation, head: h11.Request) -> None:
        method, target = head.method.decode("ascii"), head.target.decode("ascii")
        if method in ("GET", "HEAD") and target.partition("?")[0] == "/ping":
            await client.body(0)
            return await self._ping(client)
        sent = [value for name, value in head.headers if name == b"authorization"]
        name, inner = self._access.admitted(sent[0].decode("latin-1") if len(sent) == 1 else None)
        if name is None:
            raise refusals.no_key()
        if self._access.stopping():
            raise refusals.stopping()
        model = _model(target)
        if model and self._health.is_silent(model):
            raise refusals.silent()
        limit = self._rooms.limits.request_bytes
        kind = b", ".join(value for key, value in head.headers if key == b"content-type").decode("latin-1")
        if is_urlencoded(kind):
            raise refusals.urlencoded()
        size = client.announced()
        if size is not None and size > limit:
            raise refusals.too_large(limit)
        with Hold() as hold:
            await self._rooms.body(hold, limit if size is None else size)
            pieces = await client.body(limit)
            check_body(kind, b"".join(pieces))
            headers = [(key, value) for key, value in head.headers if key not in _NOT_FORWARDED]
            if is_multipart(kind):
                headers = [(key, value) for key, value in headers if key != b"content-type"]
                headers += [(b"Content-Type", FORM_TYPE.encode()), (FORM_HEADER.encode(), kind.encode("latin-1"))]
            headers += [(b"Authorization", f"Bearer {inner}".encode()), (KEY_HEADER.encode(), name.encode())]
            await self._rooms.passage(hold, sum(map(len, pieces)))
            await self._pass(client, upstream.Ask(method, target, headers, pieces))

    async def _pass(self, client: Conversation, ask: upstream.Ask) -> None:
        async def on_head(status: int, headers: upstream.Headers) -> None:
            kept = [(name, value) for name, value in headers if name not in _NOT_RETURNED]
            if status == 200 and (model := _model(ask.target)):
                self._health.moved(model)
            kept += [(b"Retry-After", b"%d" % refusals.RETRY_S)] if status == 503 else []
            await client.reply_head(status, kept)

        await self._upstream.exchange(ask, on_head, client.reply_piece)
        await client.reply_end()

    async def _ping(self, client: Conversation) -> None:
        status, said = await self._health.ping()
        await client.reply(status, said)


def _model(target: str) -> str:
    """The model that a path names, or nothing."""
    first, _, rest = target.removeprefix("/").partition("/")
    return rest.partition("?")[0].partition("/")[0] if first == "predictions" else ""
