"""The front over gRPC: calls with a key, messages counted before they are taken apart, replies as they come.

Flow: call -> key (before the message is read) -> a turn to read -> the message's shape -> room in TorchServe -> the
message made anew with the name of its key -> TorchServe -> replies. A call that TorchServe has is followed to its end
even when nobody wants it any more: until then its bytes are in TorchServe's memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from llava_viewer.client.messages import messages
from llava_wire.errors import RequestError
from servekit.front import refusals
from servekit.front.access import Access
from servekit.front.health import Health
from servekit.front.limits import CALLS, CONNECTIONS
from servekit.front.room import SOON_S, NoRoom, Rooms
from servekit.front.settings import FrontSettings
from servekit.front.shape import check_message
from servekit.front.upstream import REPLY_S
from servekit.front.web import NAME_HEADER, PROBE_HEADER

_SERVICE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/"
_PING, _PREDICTIONS = f"{_SERVICE}Ping", (f"{_SERVICE}Predictions", f"{_SERVICE}StreamPredictions")
_REFUSED = "Token Authorization failed. Token either incorrect, expired, or not provided correctly"
"""TorchServe's own words, so that clients need to know one refusal only."""
_CODES = {
    "unauthorized": grpc.StatusCode.PERMISSION_DENIED,
    "bad_request": grpc.StatusCode.INVALID_ARGUMENT,
    "invalid": grpc.StatusCode.INVALID_ARGUMENT,
    "too_large": grpc.StatusCode.INVALID_ARGUMENT,
    "overloaded": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "unavailable": grpc.StatusCode.UNAVAILABLE,
}
MESSAGE_S = 30.0
"""How long a message may take to arrive, from its turn on; gRPC does not tell how much of it is there."""
_WINDOW_BYTES = 1 << 20
_COPIES = 3
"""Of a message in the front: as it came, taken apart, written anew."""
_PIECES = 4


class Calls:
    """The gRPC side of a front."""

    def __init__(self, settings: FrontSettings, access: Access, rooms: Rooms, health: Health) -> None:
        self._settings = settings
        self._access = access
        self._rooms = rooms
        self._health = health
        self._tasks: set[asyncio.Task[None]] = set()
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

    async def call(self, method: str, context: Any) -> AsyncIterator[bytes]:
        """One call."""
        if method == _PING:
            yield await self._ping()
            return
        refusal = None
        try:
            async for reply in self._prediction(method, context):
                yield reply
        except RequestError as error:
            refusal = RequestError(error.code, error.field, error.message)
        except NoRoom:
            refusal = refusals.full("requests")
        # Out here, and made anew: gRPC keeps what is raised for long, and with it the message in its traceback.
        if refusal is not None:
            await _refuse(context, refusal)

    async def _prediction(self, method: str, context: Any) -> AsyncIterator[bytes]:
        sent = [value for key, value in context.invocation_metadata() or () if str(key).lower() == "authorization"]
        name, inner = self._access.admitted(sent[0] if len(sent) == 1 else None)
        if name is None:
            raise refusals.no_key()
        if self._access.stopping():
            raise refusals.stopping()
        async with contextlib.AsyncExitStack() as room:
            async with self._rooms.reading.taken(1, SOON_S):
                message = await _message(context)
                # Its size is known only now: whoever cannot be held does not keep the others from reading.
                await room.enter_async_context(self._rooms.body(len(message), copies=_COPIES, is_here=True))
            message, model = _named(message, name)
            if self._health.is_silent(model):
                raise refusals.silent()
            await room.enter_async_context(self._rooms.passage(len(message)))
            replies: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(_PIECES)
            gone = asyncio.Event()
            task = asyncio.create_task(self._pass(method, message, inner, model, replies, gone, room.pop_all()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        del message
        try:
            while (reply := await replies.get()) is not None:
                if isinstance(reply, grpc.aio.AioRpcError):
                    await context.abort(reply.code(), reply.details() or "")
                if isinstance(reply, BaseException):
                    raise reply
                yield reply
        finally:
            gone.set()
            while not replies.empty():
                replies.get_nowait()

    async def _pass(
        self,
        method: str,
        message: bytes,
        inner: str,
        model: str,
        replies: asyncio.Queue[bytes | BaseException | None],
        gone: asyncio.Event,
        room: contextlib.AsyncExitStack,
    ) -> None:
        """Follows a call to its end, whoever still listens; then its room is free again."""
        last: BaseException | None = None
        async with room:
            passed = self._passed.unary_stream(method)(
                message, metadata=(("authorization", f"Bearer {inner}"),), timeout=REPLY_S
            )
            del message
            try:
                async for reply in passed:
                    self._health.moved(model)
                    if not gone.is_set():
                        await replies.put(reply)
            except grpc.aio.AioRpcError as error:
                last = refusals.gone() if error.code() is grpc.StatusCode.UNAVAILABLE and _no_place(error) else error
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
        if method not in (_PING, *_PREDICTIONS):
            return None

        async def passed(_: object, context: Any) -> AsyncIterator[bytes]:
            async for reply in self._calls.call(method, context):
                yield reply

        # As a stream of requests, since gRPC reads a single one before it asks anybody.
        return grpc.stream_stream_rpc_method_handler(passed)


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
    message.input[NAME_HEADER] = name.encode()
    return bytes(message.SerializeToString()), str(message.model_name)


def _no_place(error: grpc.aio.AioRpcError) -> bool:
    """Whether nobody listened, as against a reply of TorchServe with this code."""
    return "failed to connect" in (error.details() or "").lower()


async def _refuse(context: Any, error: RequestError) -> None:
    code = _CODES[error.code]
    details = _REFUSED if error.code == "unauthorized" else str(error)
    again = (("retry-after", str(refusals.RETRY_S)),) if error.code == "overloaded" else ()
    await context.abort(code, details, again)
