"""The front over gRPC: calls with a key, messages counted before they are taken apart, replies as they come.

Flow: call -> key (before the message is read) -> a turn to read -> the message's shape -> room in TorchServe -> the
message made anew with the name of its key -> TorchServe -> replies. A call that TorchServe has is followed to its end
even when nobody wants it any more: until then its bytes are in TorchServe's memory.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from llava_viewer.client.transport.messages import messages
from llava_wire.system.inner import KEY_HEADER, PROBE_HEADER
from servekit.front import refusals
from servekit.front.access import Access
from servekit.front.ending import REFUSALS, Refusal, passed_on
from servekit.front.health import Health
from servekit.front.limits import CALLS, CONNECTIONS
from servekit.front.room import Hold, Rooms
from servekit.front.settings import FrontSettings
from servekit.front.shape import check_message
from servekit.front.upstream import REPLY_S

_SERVICE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/"
_PING, _PREDICTIONS, _STREAM = (f"{_SERVICE}{name}" for name in ("Ping", "Predictions", "StreamPredictions"))
MESSAGE_S = 30.0
"""How long a message may take to arrive, from its turn on; gRPC does not tell how much of it is there."""
_WINDOW_BYTES = 1 << 20
_COPIES = 3
"""Of a message in the front: as it came, taken apart, written anew."""
_PIECES = 4


@dataclass(frozen=True)
class _Entry:
    """What goes with a message to TorchServe: its model, its metadata, and what it holds until the reply."""

    model: str
    metadata: tuple[tuple[str, str], ...]
    hold: Hold


class Calls:
    """The gRPC side of a front."""

    def __init__(self, settings: FrontSettings, access: Access, rooms: Rooms, health: Health) -> None:
        self._settings = settings
        self._access = access
        self._rooms = rooms
        self._health = health
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls: set[Any] = set()
        self._passed: Any = None

    async def start(self) -> Any:
        """Listens."""
        one = self._settings
        inner = f"{one.host}:{one.inner_grpc}"
        whole = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._passed = grpc.aio.insecure_channel(inner, options=[*whole, ("grpc.use_local_subchannel_pool", 1)])
        options = [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", one.limits.request_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", 16_384),
            ("grpc.max_allowed_incoming_connections", CONNECTIONS),
            ("grpc.max_concurrent_streams", CALLS),
            ("grpc.server_handshake_timeout_ms", 30_000),
            ("grpc.max_connection_idle_ms", 60_000),
            # What a client may send before anybody reads: without this it grows with the speed of the connection.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
        ]
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=2 * CALLS)
        server.add_generic_rpc_handlers((_Methods(self),))
        place = f"{one.host}:{one.grpc}"
        if one.certificate:
            pair = (Path(one.private_key).read_bytes(), Path(one.certificate).read_bytes())
            server.add_secure_port(place, grpc.ssl_server_credentials([pair]))
        else:
            server.add_insecure_port(place)
        await server.start()
        return server

    async def one(self, method: str, context: Any) -> bytes:
        """A call with one reply."""
        if method == _PING:
            return await self._ping()
        try:
            message, entry = await self._taken(context)
            return await self._followed(self._passed.unary_unary(method), message, entry)
        except REFUSALS as error:
            refusal = Refusal.of(error)
        return await refusal.end(context)

    async def many(self, method: str, context: Any) -> AsyncIterator[bytes]:
        """A call with a stream of replies."""
        try:
            message, entry = await self._taken(context)
            replies: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(_PIECES)
            gone = asyncio.Event()
            task = asyncio.create_task(self._pass_many(method, message, entry, replies, gone))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            del message
            try:
                while (reply := await replies.get()) is not None:
                    if isinstance(reply, BaseException):
                        raise reply
                    yield reply
            finally:
                gone.set()
                while not replies.empty():
                    replies.get_nowait()
            return
        except REFUSALS as error:
            refusal = Refusal.of(error)
        await refusal.end(context)

    async def _taken(self, context: Any) -> tuple[bytes, _Entry]:
        """A call's message as TorchServe gets it, with room for it in TorchServe.

        Raises:
            RequestError, NoRoom: it is refused.
        """
        sent = [value for key, value in context.invocation_metadata() or () if str(key).lower() == "authorization"]
        name, inner = self._access.admitted(sent[0] if len(sent) == 1 else None)
        if name is None:
            raise refusals.no_key()
        if self._access.stopping():
            raise refusals.stopping()
        with Hold() as hold:
            with Hold() as turn:
                await self._rooms.reading(turn)
                message = await _message(context)
                # Its size is known only now: whoever cannot be held does not keep the others from reading.
                await self._rooms.body(hold, len(message), copies=_COPIES, is_here=True)
            message, model = _named(message, name)
            if self._health.is_silent(model):
                raise refusals.silent()
            await self._rooms.passage(hold, len(message))
            return message, _Entry(model, (("authorization", f"Bearer {inner}"),), hold.handed_on())

    async def _followed(self, pass_on: Any, message: bytes, entry: _Entry) -> bytes:
        """The reply to a message that TorchServe keeps to the end, even when nobody waits for it any more."""
        passed = pass_on(message, metadata=entry.metadata, timeout=REPLY_S)
        ended = asyncio.get_running_loop().create_future()

        def end(_: object) -> None:
            entry.hold.give_back()
            self._calls.discard(passed)
            if not ended.done():
                ended.set_result(None)

        self._calls.add(passed)
        passed.add_done_callback(end)
        await ended
        try:
            reply = bytes(await passed)
        except grpc.aio.AioRpcError as error:
            raise passed_on(error) from None
        self._health.moved(entry.model)
        return reply

    async def _pass_many(
        self,
        method: str,
        message: bytes,
        entry: _Entry,
        replies: asyncio.Queue[bytes | BaseException | None],
        gone: asyncio.Event,
    ) -> None:
        last: BaseException | None = None
        with entry.hold:
            passed = self._passed.unary_stream(method)(message, metadata=entry.metadata, timeout=REPLY_S)
            del message
            try:
                async for reply in passed:
                    self._health.moved(entry.model)
                    if not gone.is_set():
                        await replies.put(reply)
            except grpc.aio.AioRpcError as error:
                last = passed_on(error)
        if not gone.is_set():
            await replies.put(last)

    async def _ping(self) -> bytes:
        _, said = await self._health.ping()
        # A TorchServeHealthResponse has its text where a PredictionResponse has its bytes.
        return bytes(messages().PredictionResponse(prediction=json.dumps(said).encode()).SerializeToString())


class _Methods(grpc.GenericRpcHandler):
    """The methods that there are, with messages as bytes."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def service(self, details: Any) -> Any:
        """The handler of a method; None for one that there is not."""
        method = str(details.method)

        async def one(_: object, context: Any) -> bytes:
            return await self._calls.one(method, context)

        async def many(_: object, context: Any) -> AsyncIterator[bytes]:
            async for reply in self._calls.many(method, context):
                yield reply

        # As streams of requests, since gRPC reads a single one before it asks anybody.
        if method in (_PING, _PREDICTIONS):
            return grpc.stream_unary_rpc_method_handler(one)
        return grpc.stream_stream_rpc_method_handler(many) if method == _STREAM else None


async def _message(context: Any) -> bytes:
    """The call's message. Read by itself: gRPC's iterator over messages keeps them until long after the call."""
    try:
        async with asyncio.timeout(MESSAGE_S):
            message = await context.read()
    except TimeoutError:
        raise refusals.too_slow(MESSAGE_S) from None
    if message is grpc.aio.EOF:
        raise refusals.not_a_message()
    return bytes(message)


def _named(request: bytes, name: str) -> tuple[bytes, str]:
    """A PredictionsRequest with the name of its key in place of any that it came with, and its model.

    Parsed and written anew without fields that are not known: bytes that are merely appended could become part of one
    that the client left open.

    Raises:
        RequestError: bytes that are no such message, or one of too many fields.
    """
    from google.protobuf.message import DecodeError

    check_message(request)
    message = messages().PredictionsRequest()
    try:
        message.ParseFromString(request)
    except DecodeError:
        raise refusals.not_a_message() from None
    message.DiscardUnknownFields()
    message.input.pop(PROBE_HEADER, None)
    message.input[KEY_HEADER] = name.encode()
    return bytes(message.SerializeToString()), str(message.model_name)
