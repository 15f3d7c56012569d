"""The client, the same over both transports.

Flow: picture + question (or a record to replay) + options -> `Transport.send` -> reply bytes -> `llava_wire.decode` ->
`Record`.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

from llava_viewer.client.address import DEFAULT_MODEL, DEFAULT_TARGET, DEFAULT_URL, shown, split_url
from llava_viewer.client.auth import Token
from llava_viewer.client.errors import (
    NOT_READY_CODES,
    WILL_NOT_HELP_CODES,
    ServerUnreachable,
    raise_handler_error,
    with_served,
)
from llava_viewer.client.fields import question_fields, replay_fields, with_picture
from llava_viewer.client.retry import DEFAULT_RETRY_S, Patience
from llava_viewer.client.stream import StreamedToken, read_stream
from llava_wire.container import decode
from llava_wire.errors import RequestError
from llava_wire.record import Record

DEFAULT_TIMEOUT_S = 600.0
"""More than the longest `deadline_ms` of the models in model_store, so that the server's answer comes first."""
CONNECT_TIMEOUT_S = 10.0

Result = TypeVar("Result")
Part = StreamedToken | Record


class Transport(Protocol):
    """What a way to the server must do."""

    def send(self, fields: Mapping[str, bytes], *, npz: bool, timeout_s: float) -> bytes:
        """Sends the request's fields and returns the reply's bytes.

        Args:
            fields: image, prompt or record, and options as bytes; "ready" alone asks whether the model answers.
            npz: whether the reply should be a record file rather than JSON.
            timeout_s: seconds until the request is given up.

        Raises:
            RequestError: refused, by the handler or by the server in front of it, or not answered.
        """

    def stream(self, fields: Mapping[str, bytes], *, timeout_s: float) -> Iterator[bytes]:
        """As `send`, and yields the reply's bytes as they come."""

    def close(self) -> None:
        """Closes the connections."""


class Client:
    """A connection to one model of one server; usable from several threads, and as a context manager.

    Make one with `Client.local`, `Client.http` or `Client.grpc`.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        model: str = DEFAULT_MODEL,
        served: Sequence[str] = (),
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry_s: float = DEFAULT_RETRY_S,
    ) -> None:
        self._transport = transport
        self._model = model
        self._served = tuple(served)
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._answered = False

    @classmethod
    def http(
        cls,
        url: str = DEFAULT_URL,
        *,
        model: str | None = None,
        token: Token = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry_s: float = DEFAULT_RETRY_S,
        ca_file: Path | None = None,
        served: Sequence[str] = (),
    ) -> Client:
        """A client over HTTP; needs the extra `http`.

        Args:
            url: the server's inference address, or that of a model's predictions, as the server prints it; https:// for
                TLS.
            model: the served model's name; None for the one that the url names, else llava-shapes.
            token: the key itself, or the path of TorchServe's key_file.json, which is read afresh for every request,
                or None for the environment's LLAVA_GAZE_TOKEN (none at all where that is not set).
            timeout_s: seconds until a request is given up, its repetitions included.
            retry_s: seconds in which a request is sent again when the server was overloaded, its worker died, or the
                connection to a server that had answered before was lost; 0 for never.
            ca_file: PEM certificates to trust instead of the system's.
            served: the models that the server is known to have, for the error about one that it has not.

        Raises:
            ValueError: for something that is not an http or https address, or names another model than `model`.
            ImportError: without httpx.
        """
        from llava_viewer.client.http import HttpTransport

        address, named = split_url(url)
        if model and named and model != named:
            raise ValueError(f"model: got {model!r} beside {shown(url)}, allowed one of the two; leave one out")
        model = model or named or DEFAULT_MODEL
        transport = HttpTransport(address, model, token, ca_file)
        return cls(transport, model=model, served=served, timeout_s=timeout_s, retry_s=retry_s)

    @classmethod
    def grpc(
        cls,
        target: str = DEFAULT_TARGET,
        *,
        model: str | None = None,
        token: Token = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry_s: float = DEFAULT_RETRY_S,
        tls: bool = False,
        ca_file: Path | None = None,
        served: Sequence[str] = (),
    ) -> Client:
        """A client over gRPC; needs the extra `grpc`.

        Args:
            target: HOST:PORT of the server's gRPC inference address.
            model: the served model's name; None for llava-shapes.
            token, timeout_s, retry_s, served: as for `Client.http`.
            tls: encrypt, with the system's certificates unless `ca_file` is given.
            ca_file: PEM certificates to trust; implies `tls`.

        Raises:
            ValueError: for something that is not HOST:PORT.
            ImportError: without grpcio or protobuf.
        """
        from llava_viewer.client.grpc import GrpcTransport

        model = model or DEFAULT_MODEL
        transport = GrpcTransport(target, model, token, tls, ca_file)
        return cls(transport, model=model, served=served, timeout_s=timeout_s, retry_s=retry_s)

    @classmethod
    def local(
        cls,
        name: str | None = None,
        *,
        model: str | None = None,
        grpc: bool = False,
        token: Token = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry_s: float = DEFAULT_RETRY_S,
    ) -> Client:
        """A client of a server that runs on this machine, found by the file that it keeps; no address and no key.

        Args:
            name: the server's name, or its run folder's path; None for the environment's LLAVA_GAZE_SERVER, else the
                server "default", else the only one that runs.
            model: None for the only model that it serves.
            grpc: over gRPC instead of HTTP.
            token: None for the environment's LLAVA_GAZE_TOKEN, else the server's own key file.
            timeout_s, retry_s: as for `Client.http`.

        Raises:
            RequestError: no such server runs, or which one or which model is meant is not said.
            ImportError: without the transport's package.
        """
        from llava_viewer.client.auth import or_key_file
        from llava_viewer.client.local import choose_model, require_server

        server = require_server(name)
        return (cls.grpc if grpc else cls.http)(
            server.grpc if grpc else server.http,
            model=model or choose_model(server.models),
            token=or_key_file(token, server.key_file),
            timeout_s=timeout_s,
            retry_s=retry_s,
            ca_file=server.certificate,
            served=server.models,
        )

    def predict(
        self,
        image: bytes | Path,
        prompt: str,
        options: Mapping[str, Any] | None = None,
        *,
        keep_picture: bool = True,
        timeout_s: float | None = None,
        **more: Any,
    ) -> Record:
        """Asks one question about one picture.

        Args:
            image: a picture file's bytes, or its path.
            prompt: the question.
            options: the request's options (docs/http-api.md); `more` gives the same as keywords and wins.
            keep_picture: add the upright, metadata-free picture to the record, so that one file renders and replays.
            timeout_s: seconds until this request is given up, instead of the client's.

        Raises:
            RequestError: the request was refused or not answered; `ServerUnreachable` when nothing listens there.
            RecordError: the reply is not a record.
            OSError: the picture file cannot be read.
        """
        merged = {**(options or {}), **more, "format": "npz"}
        if merged.get("stream") is True:
            raise RequestError("invalid", "options.stream", "got true, allowed false here; call stream instead")
        fields = question_fields(image, prompt, merged)
        record = decode(self._send(fields, npz=True, timeout_s=timeout_s))
        return with_picture(record, fields["image"]) if keep_picture else record

    def predict_bytes(
        self,
        image: bytes | Path,
        prompt: str,
        options: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        **more: Any,
    ) -> bytes:
        """Like `predict`, but gives the reply as it came: a record file, or JSON with `format="json"`."""
        merged = {"format": "npz", **(options or {}), **more}
        return self._send(question_fields(image, prompt, merged), npz=merged["format"] == "npz", timeout_s=timeout_s)

    def stream(
        self,
        image: bytes | Path,
        prompt: str,
        options: Mapping[str, Any] | None = None,
        *,
        keep_picture: bool = True,
        timeout_s: float | None = None,
        **more: Any,
    ) -> Iterator[Part]:
        """Asks one question and gives the answer as it is being written; over HTTP alone.

        Args:
            image, prompt, options, keep_picture, timeout_s: as for `predict`.

        Yields:
            a `StreamedToken` for each token, then the `Record` that `predict` would give.

        Raises:
            RequestError: as `predict`; after the first token also for what ended the answer, and "unavailable" when the
                stream was cut off before its record. Nothing is sent again once a token has come.
            RecordError, OSError: as `predict`.
        """
        fields = question_fields(image, prompt, {**(options or {}), **more, "stream": True})

        def begin(left_s: float) -> tuple[Part, Generator[Part, None, None]]:
            parts = read_stream(self._transport.stream(fields, timeout_s=left_s))
            return next(parts), parts

        first, parts = self._patiently(begin, timeout_s)
        with contextlib.closing(parts):
            for part in itertools.chain([first], parts):
                yield with_picture(part, fields["image"]) if isinstance(part, Record) and keep_picture else part

    def replay(
        self,
        record: Record,
        options: Mapping[str, Any] | None = None,
        *,
        image: bytes | Path | None = None,
        keep_picture: bool = True,
        timeout_s: float | None = None,
        **more: Any,
    ) -> Record:
        """Asks for other views of an answer that exists, without generating it again.

        Args:
            record: the answer; it must come from the model that is served.
            options: layers, heads, reduction or views, rows, steps, precision; `more` gives the same as keywords.
            image: the picture file's bytes, or its path; None sends the picture that the record carries.
            keep_picture, timeout_s: as for `predict`.

        Raises:
            RequestError, RecordError, OSError: as `predict`.
        """
        fields = replay_fields(record, image, {**(options or {}), **more, "format": "npz"})
        again = decode(self._send(fields, npz=True, timeout_s=timeout_s))
        return with_picture(again, fields["image"]) if keep_picture and "image" in fields else again

    def _send(self, fields: Mapping[str, bytes], *, npz: bool, timeout_s: float | None) -> bytes:
        def attempt(left_s: float) -> bytes:
            reply = self._transport.send(fields, npz=npz, timeout_s=left_s)
            raise_handler_error(reply)
            return reply

        return self._patiently(attempt, timeout_s)

    def _patiently(self, attempt: Callable[[float], Result], timeout_s: float | None) -> Result:
        """The result of the first attempt that succeeds, or the error that is not worth another one."""
        patience = Patience(self._retry_s, self._timeout_s if timeout_s is None else timeout_s, known=self._answered)
        while True:
            try:
                result = attempt(patience.left_s)
            except RequestError as error:
                self._answered |= not isinstance(error, ServerUnreachable)
                pause_s = patience.wait_s(error)
                if pause_s is None:
                    raise with_served(error, self._model, self._served) from error.__cause__
            else:
                self._answered = True
                return result
            time.sleep(pause_s)

    def ready(self, timeout_s: float = 5.0) -> bool:
        """Whether the model's worker answers within `timeout_s` seconds.

        The server's ping says yes long before a model is loaded, so this asks the model's worker itself, with a request
        that counts in none of the server's figures. A worker busy with a long answer counts as not ready.

        Raises:
            RequestError: for a wrong token or an unknown model, which waiting will not cure.
        """
        try:
            raise_handler_error(self._transport.send({"ready": b"1"}, npz=False, timeout_s=timeout_s))
        except RequestError as error:
            if error.code in WILL_NOT_HELP_CODES:
                raise with_served(error, self._model, self._served) from error.__cause__
            return error.code not in NOT_READY_CODES
        return True

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
