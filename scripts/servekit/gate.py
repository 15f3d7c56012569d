"""The door of a server with keys of its own: whoever has one gets in, and only health checks do without.

Flow: HTTP or gRPC call -> its key's name (`servekit.named_keys`) -> the call with TorchServe's key of the moment and
the name, to TorchServe's own ports -> the reply as it comes. TorchServe knows one key, which it makes anew at every
start; behind this process it still asks for it, so management stays as closed as it was.
Run by `servekit.gatekeeper` as `python -m servekit.gate SETTINGS.json`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from llava_wire.errors import RequestError
from servekit.gatekeeper import GateSettings
from servekit.named_keys import NamedKeys

NAME_HEADER = "x-llava-gaze-key"
NAME_FIELD = "x-llava-gaze-key"
"""The name of a request's key, for the worker's log: in a header over HTTP, in the map of inputs over gRPC."""
_SERVICE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/"
_PING, _PREDICTIONS = f"{_SERVICE}Ping", (f"{_SERVICE}Predictions", f"{_SERVICE}StreamPredictions")
_SIZE_HEADERS = ("content-length", "transfer-encoding")
_SIZE = re.compile(r"content-length:[0-9]{1,15}|transfer-encoding:chunked")
_HEAD_BYTES = 65_536
_HEAD_S = 30.0
_LINGER_S = 5.0
_PIECE_BYTES = 65_536
_NOT_FORWARDED = {
    "authorization", "connection", "keep-alive", "proxy-connection", "upgrade", "http2-settings", NAME_HEADER,
}  # fmt: skip
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
        web = await asyncio.start_server(self._connected, one.host, one.http, ssl=context, limit=_HEAD_BYTES)
        size = [("grpc.max_receive_message_length", one.most_bytes), ("grpc.max_send_message_length", -1)]
        whole = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._inner = grpc.aio.insecure_channel(f"{one.host}:{one.inner_grpc}", options=whole)
        calls = grpc.aio.server(options=[*size, ("grpc.so_reuseport", 0)])
        calls.add_generic_rpc_handlers((_Calls(self),))
        place = f"{one.host}:{one.grpc}"
        if context is None:
            calls.add_insecure_port(place)
        else:
            pair = (Path(one.private_key).read_bytes(), Path(one.certificate).read_bytes())
            calls.add_secure_port(place, grpc.ssl_server_credentials([pair]))
        await calls.start()
        async with web:
            await web.serve_forever()

    def admitted(self, authorization: str | None) -> tuple[str | None, str]:
        """The name of a call's key, or None; and the key that TorchServe asks for now, empty while it has none."""
        try:
            inner = str(json.loads(Path(self._settings.key_file).read_text("utf-8"))["inference"]["key"])
        except (OSError, ValueError, KeyError, TypeError):
            inner = ""
        name = self._keys.name_of(authorization, inner or None)
        if self._keys.trouble != self._told:
            self._told = self._keys.trouble
            print(f"{self._told or 'keys: read again'}", file=sys.stderr, flush=True)
        return name, inner

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Held here: asyncio itself lets go of a connection's task when the client leaves.
        task = asyncio.create_task(self._http(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, which carries one request."""
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError, ssl.SSLError):
                await self._request(reader, writer)
        finally:
            with contextlib.suppress(OSError, ssl.SSLError):
                writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = _parse(await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _HEAD_S))
        except (asyncio.LimitOverrunError, ValueError):
            refusal = RequestError("bad_request", "server", "got bytes that are no HTTP request, allowed one; mend it")
            return await _refuse(reader, writer, refusal)
        name, inner = self.admitted(head.value("authorization"))
        if name is None and not head.is_ping:
            words = "got a missing or wrong key, allowed one of this server's; send Authorization: Bearer KEY"
            return await _refuse(reader, writer, RequestError("unauthorized", "token", words))
        try:
            back, forth = await asyncio.open_connection(self._settings.host, self._settings.inner_http)
        except OSError:
            words = "got a server that is starting or gone, allowed one that is ready; send it again"
            return await _refuse(reader, writer, RequestError("unavailable", "server", words))
        forth.write(head.forwarded(inner, name))
        sending = asyncio.create_task(_pump(reader, forth, head.body_bytes))
        try:
            await _reply(back, writer, without_body=head.line.startswith("HEAD "))
        finally:
            sending.cancel()
            await asyncio.wait([sending])
            forth.close()
        await _end(reader, writer)

    async def call(self, method: str, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """One gRPC call, passed on byte for byte; a question about a picture gains the name of its key."""
        metadata = {str(key).lower(): value for key, value in context.invocation_metadata() or ()}
        name, inner = self.admitted(metadata.get("authorization"))
        if name is None and method != _PING:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, _REFUSED)
        if method in _PREDICTIONS:
            # Appended to the message: of two entries of one name the last counts, so nobody can name another.
            request += _entry(NAME_FIELD, str(name))
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


@dataclass(frozen=True)
class _Head:
    """The first line and the headers of a request."""

    line: str
    headers: tuple[tuple[str, str], ...]

    def value(self, name: str) -> str | None:
        """A header's value; None when it is missing or there twice."""
        values = [value for key, value in self.headers if key.lower() == name]
        return values[0] if len(values) == 1 else None

    @property
    def body_bytes(self) -> int | None:
        """The size of the body; None for one in chunks, whose end TorchServe finds."""
        if self.value("transfer-encoding") is not None:
            return None
        return int(self.value("content-length") or 0)

    @property
    def is_ping(self) -> bool:
        """Whether this is a health check, which needs no key."""
        method, target, _ = self.line.split(" ", 2)
        return method in ("GET", "HEAD") and target.partition("?")[0] == "/ping"

    def forwarded(self, key: str, name: str | None) -> bytes:
        """The head as TorchServe gets it: with its own key, the name of the client's, and the end after one answer."""
        kept = [(key, value) for key, value in self.headers if key.lower() not in _NOT_FORWARDED]
        kept += [("Authorization", f"Bearer {key}"), ("Connection", "close")]
        kept += [(NAME_HEADER, name)] if name else []
        lines = [self.line, *(f"{key}: {value}" for key, value in kept)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _parse(head: bytes) -> _Head:
    """The head of an HTTP/1 request; ValueError for anything else."""
    line, *rest = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, target, version = line.split(" ")
    if not method.isalpha() or not target.startswith("/") or version not in ("HTTP/1.1", "HTTP/1.0"):
        raise ValueError
    headers = []
    for text in rest:
        name, colon, value = text.partition(":")
        if not colon or not name or name != name.strip() or any(char in text for char in "\r\n\0"):
            raise ValueError
        headers.append((name, value.strip()))
    sizes = [f"{name}:{value}".lower() for name, value in headers if name.lower() in _SIZE_HEADERS]
    # Of two sizes nobody could say where the request ends.
    if len(sizes) > 1 or not all(_SIZE.fullmatch(size) for size in sizes):
        raise ValueError
    return _Head(line, tuple(headers))


async def _reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, without_body: bool) -> None:
    """Passes a reply on, and tells the client in its head that the connection ends with it."""
    with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        interim = True
        while interim:
            line, *headers = (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n").split(b"\r\n")
            interim = line.split(b" ")[1][:1] == b"1"
            headers = [header for header in headers if not header.lower().startswith((b"connection:", b"keep-alive:"))]
            writer.write(b"\r\n".join([line, *headers, *([] if interim else [b"connection: close"])]) + b"\r\n\r\n")
        sizes = [
            value for name, _, value in (one.partition(b":") for one in headers) if name.lower() == b"content-length"
        ]
        await _pump(reader, writer, 0 if without_body else int(sizes[0]) if sizes else None)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int | None) -> None:
    """Passes bytes on until there are no more, or so many."""
    with contextlib.suppress(OSError, ssl.SSLError):
        while most is None or most > 0:
            piece = await reader.read(_PIECE_BYTES if most is None else min(_PIECE_BYTES, most))
            if not piece:
                return
            most = None if most is None else most - len(piece)
            writer.write(piece)
            await writer.drain()


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, error: RequestError) -> None:
    """Answers in TorchServe's place."""
    body = json.dumps(error.to_body()).encode()
    head = f"HTTP/1.1 {error.status} \r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    writer.write(head.encode() + b"connection: close\r\n\r\n" + body)
    await writer.drain()
    await _end(reader, writer)


async def _end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ends the reply, and reads on for a moment: closing over unread bytes would cost the client the reply."""
    if writer.can_write_eof():
        writer.write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while await reader.read(_PIECE_BYTES):
                pass


def _entry(name: str, value: str) -> bytes:
    """One entry of a PredictionsRequest's `map<string, bytes> input = 3`; short enough for lengths of one byte."""
    inside = b"\x0a" + bytes([len(name)]) + name.encode() + b"\x12" + bytes([len(value)]) + value.encode()
    return b"\x1a" + bytes([len(inside)]) + inside


def main() -> None:
    """The process."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(Gate(GateSettings.read(Path(sys.argv[1]))).run())


if __name__ == "__main__":
    main()
