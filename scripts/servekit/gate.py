"""The door of a server with keys of its own: whoever has one gets in, and only health checks do without.

Flow: HTTP or gRPC call -> its parts (`servekit.http_head`, protobuf) -> its key's name (`servekit.named_keys`) -> the
call made anew with TorchServe's key of the moment and the name, to TorchServe's own ports -> the reply as it comes
(`servekit.relay`). TorchServe knows one key, which it makes anew at every
start; behind this process it still asks for it, so management stays as closed as it was.
Run by `servekit.gatekeeper` as `python -m servekit.gate SETTINGS.json`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from llava_viewer.client.messages import messages
from llava_wire.errors import RequestError
from servekit.gatekeeper import GateSettings
from servekit.http_head import NAME_HEADER, Head, parse_head
from servekit.named_keys import NamedKeys
from servekit.relay import close, finish, pass_reply, refuse, send_body

NAME_FIELD = NAME_HEADER
"""The name of a request's key, for the worker's log: in a header over HTTP, in the map of inputs over gRPC."""
_SERVICE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/"
_PING, _PREDICTIONS = f"{_SERVICE}Ping", (f"{_SERVICE}Predictions", f"{_SERVICE}StreamPredictions")
_HEAD_BYTES = 65_536
_HEAD_S = 30.0
_MOST_CONNECTIONS = 256
_WATCH_S = 5.0
_REFUSED = "Token Authorization failed. Token either incorrect, expired, or not provided correctly"
"""TorchServe's own words, so that clients need to know one refusal only."""


class Gate:
    """Lets calls in; see the module."""

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self._keys = NamedKeys(Path(settings.keys))
        self._told = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serves both ports until the process ends."""
        one = self._settings
        context = None
        if one.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(one.certificate, one.private_key)
        patience = {"ssl_handshake_timeout": _HEAD_S} if context else {}
        web = await asyncio.start_server(
            self._connected, one.host, one.http, ssl=context, limit=_HEAD_BYTES, **patience
        )
        size = [("grpc.max_receive_message_length", one.most_bytes), ("grpc.max_send_message_length", -1)]
        whole = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._inner = grpc.aio.insecure_channel(f"{one.host}:{one.inner_grpc}", options=whole)
        calls = grpc.aio.server(options=[*size, ("grpc.so_reuseport", 0)], maximum_concurrent_rpcs=_MOST_CONNECTIONS)
        calls.add_generic_rpc_handlers((_Calls(self),))
        place = f"{one.host}:{one.grpc}"
        if context is None:
            calls.add_insecure_port(place)
        else:
            pair = (Path(one.private_key).read_bytes(), Path(one.certificate).read_bytes())
            calls.add_secure_port(place, grpc.ssl_server_credentials([pair]))
        await calls.start()
        async with web:
            watching = asyncio.create_task(self._watch())
            await web.serve_forever()
            await watching

    def admitted(self, authorization: str | None) -> tuple[str | None, str]:
        """The name of a call's key, or None; and the key that TorchServe asks for now, empty while it has none."""
        try:
            inner = str(json.loads(Path(self._settings.key_file).read_text("utf-8"))["inference"]["key"])
        except (OSError, ValueError, KeyError, TypeError):
            inner = ""
        name = self._keys.name_of(authorization, inner or None)
        self._tell()
        return name, inner

    async def _watch(self) -> None:
        """Looks at the file of keys also while nobody calls: how long it has been bad counts from then."""
        while True:
            self._keys.refresh()
            self._tell()
            await asyncio.sleep(_WATCH_S)

    def _tell(self) -> None:
        if self._keys.trouble != self._told:
            self._told = self._keys.trouble
            print(f"{self._told or 'keys: read again'}", file=sys.stderr, flush=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # As many again may wait for their refusal; whoever comes on top of that gets none.
        if len(self._tasks) >= 2 * _MOST_CONNECTIONS:
            return writer.transport.abort()
        # Held here: asyncio itself lets go of a connection's task when the client leaves.
        task = asyncio.create_task(self._http(reader, writer, is_full=len(self._tasks) >= _MOST_CONNECTIONS))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_full: bool) -> None:
        """One connection, which carries one request."""
        try:
            with contextlib.suppress(OSError, EOFError, ssl.SSLError):
                if is_full:
                    words = f"got more than {_MOST_CONNECTIONS} connections at once, allowed no more; send it again"
                    return await refuse(reader, writer, RequestError("overloaded", "server", words))
                await self._request(reader, writer)
        finally:
            await close(writer)

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = parse_head(await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _HEAD_S))
        except (asyncio.LimitOverrunError, ValueError):
            return await refuse(reader, writer, _no_request())
        name, inner = self.admitted(head.value("authorization"))
        if name is None and not head.is_ping:
            words = "got a missing or wrong key, allowed one of this server's; send Authorization: Bearer KEY"
            return await refuse(reader, writer, RequestError("unauthorized", "token", words))
        try:
            back, forth = await asyncio.open_connection(self._settings.host, self._settings.inner_http)
        except OSError:
            words = "got a server that is starting or gone, allowed one that is ready; send it again"
            return await refuse(reader, writer, RequestError("unavailable", "server", words))
        try:
            forth.write(head.forwarded(inner, name))
            refusal = await _exchange(reader, writer, back, forth, head)
        finally:
            await close(forth)
        await (refuse(reader, writer, refusal) if refusal else finish(reader, writer))

    async def call(self, method: str, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """One gRPC call; a question about a picture is made anew, with the name of its key."""
        sent = [value for key, value in context.invocation_metadata() or () if str(key).lower() == "authorization"]
        name, inner = self.admitted(sent[0] if len(sent) == 1 else None)
        if name is None and method != _PING:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, _REFUSED)
        if method in _PREDICTIONS:
            try:
                request = _named(request, str(name))
            except ValueError:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(_no_message()))
        else:
            request = b""
        passed = self._inner.unary_stream(method)(
            request, metadata=(("authorization", f"Bearer {inner}"),), timeout=context.time_remaining()
        )
        try:
            async for reply in passed:
                yield reply
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "")
        finally:
            passed.cancel()


class _Calls(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The methods that are passed on, with messages as bytes."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def service(self, details: Any) -> Any:
        """The handler of a method; None for one that there is not."""
        method = str(details.method)
        if method not in (_PING, *_PREDICTIONS):
            return None

        async def passed(request: bytes, context: Any) -> AsyncIterator[bytes]:
            async for reply in self._gate.call(method, request, context):
                yield reply

        return grpc.unary_stream_rpc_method_handler(passed)


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    back: asyncio.StreamReader,
    forth: asyncio.StreamWriter,
    head: Head,
) -> RequestError | None:
    """The body there and the reply back at the same time; why the client gets no reply, if its body was at fault."""
    sending = asyncio.create_task(send_body(reader, forth, head.body_bytes))
    replying = asyncio.create_task(pass_reply(back, writer, without_body=head.method == "HEAD"))
    try:
        await asyncio.wait({sending, replying}, return_when=asyncio.FIRST_COMPLETED)
        if not replying.done():
            try:
                await sending
            except TimeoutError:
                words = "got a body that did not arrive in time, allowed 120 s, and 30 s without a byte; send it again"
                return RequestError("bad_request", "server", words)
            except ValueError:
                return _no_request()
            await replying
        else:
            replying.result()
    finally:
        for task in (sending, replying):
            task.cancel()
        await asyncio.gather(sending, replying, return_exceptions=True)
    return None


def _no_request() -> RequestError:
    return RequestError("bad_request", "server", "got bytes that are no HTTP request, allowed one; mend it")


def _no_message() -> RequestError:
    words = "got bytes that are no PredictionsRequest, allowed one; mend it"
    return RequestError("bad_request", "server", words)


def _named(request: bytes, name: str) -> bytes:
    """A PredictionsRequest with the name of its key in place of any that it came with.

    Parsed and written anew without fields that are not known: bytes that are merely appended could become part of one
    that the client left open. ValueError for bytes that are no such message.
    """
    from google.protobuf.message import DecodeError

    message = messages().PredictionsRequest()
    try:
        message.ParseFromString(request)
    except DecodeError:
        raise ValueError from None
    message.DiscardUnknownFields()
    message.input[NAME_FIELD] = name.encode()
    return bytes(message.SerializeToString())


def main() -> None:
    """The process."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(Gate(GateSettings.read(Path(sys.argv[1]))).run())


if __name__ == "__main__":
    main()
