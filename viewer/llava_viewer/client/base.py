"""The client, the same over both transports.

Flow: picture + question (or a record to replay) + options -> `Transport.send` -> reply bytes -> `llava_wire.decode` ->
`Record`.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from llava_viewer.client.auth import Token
from llava_viewer.client.errors import (
    NOT_READY_CODES,
    WILL_NOT_HELP_CODES,
    ServerUnreachable,
    raise_handler_error,
)
from llava_viewer.client.retry import DEFAULT_RETRY_S, Patience
from llava_viewer.picture import PictureError, prepare_picture
from llava_wire.container import decode, encode
from llava_wire.errors import RequestError
from llava_wire.record import Record

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_TARGET = "127.0.0.1:7070"
DEFAULT_MODEL = "llava-shapes"
DEFAULT_TIMEOUT_S = 300.0
"""A little more than the server's own limit for one request, so that its answer comes first."""
CONNECT_TIMEOUT_S = 10.0
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""Hosts that are reached without the environment's proxy."""


class Transport(Protocol):
    """What a way to the server must do."""

    def send(self, fields: Mapping[str, bytes], *, npz: bool, timeout_s: float) -> bytes:
        """Sends the request's fields and returns the reply's bytes.

        Args:
            fields: image, prompt or record, and options as bytes; empty when only the handler's attention is wanted.
            npz: whether the reply should be a record file rather than JSON.
            timeout_s: seconds until the request is given up.

        Raises:
            RequestError: refused, by the handler or by the server in front of it, or not answered.
        """

    def close(self) -> None:
        """Closes the connections."""


class Client:
    """A connection to one model of one server; usable from several threads, and as a context manager.

    Make one with `Client.http` or `Client.grpc`.
    """

    def __init__(
        self, transport: Transport, *, timeout_s: float = DEFAULT_TIMEOUT_S, retry_s: float = DEFAULT_RETRY_S
    ) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._answered = False

    @classmethod
    def http(
        cls,
        url: str = DEFAULT_URL,
        *,
        model: str = DEFAULT_MODEL,
        token: Token = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry_s: float = DEFAULT_RETRY_S,
        ca_file: Path | None = None,
    ) -> Client:
        """A client over HTTP; needs the extra `http`.

        Args:
            url: the server's inference address; https:// for TLS.
            model: the served model's name.
            token: the key itself, or the path of TorchServe's key_file.json, which is read afresh for every request,
                or None for the environment's LLAVA_GAZE_TOKEN (none at all where that is not set).
            timeout_s: seconds until a request is given up, its repetitions included.
            retry_s: seconds in which a request is sent again when the server was overloaded, its worker died, or the
                connection to a server that had answered before was lost; 0 for never.
            ca_file: PEM certificates to trust instead of the system's.

        Raises:
            ValueError: for something that is not an http or https address.
            ImportError: without httpx.
        """
        from llava_viewer.client.http import HttpTransport

        return cls(HttpTransport(url, model, token, ca_file), timeout_s=timeout_s, retry_s=retry_s)

    @classmethod
    def grpc(
        cls,
        target: str = DEFAULT_TARGET,
        *,
        model: str = DEFAULT_MODEL,
        token: Token = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry_s: float = DEFAULT_RETRY_S,
        tls: bool = False,
        ca_file: Path | None = None,
    ) -> Client:
        """A client over gRPC; needs the extra `grpc`.

        Args:
            target: HOST:PORT of the server's gRPC inference address.
            model, token, timeout_s, retry_s: as for `Client.http`.
            tls: encrypt, with the system's certificates unless `ca_file` is given.
            ca_file: PEM certificates to trust; implies `tls`.

        Raises:
            ValueError: for something that is not HOST:PORT.
            ImportError: without grpcio or protobuf.
        """
        from llava_viewer.client.grpc import GrpcTransport

        return cls(GrpcTransport(target, model, token, tls, ca_file), timeout_s=timeout_s, retry_s=retry_s)

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
        data = image if isinstance(image, bytes) else Path(image).read_bytes()
        record = decode(self.predict_bytes(data, prompt, options, timeout_s=timeout_s, **{**more, "format": "npz"}))
        return _with_picture(record, data) if keep_picture else record

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
        data = image if isinstance(image, bytes) else Path(image).read_bytes()
        merged = {"format": "npz", **(options or {}), **more}
        fields = {"image": data, "prompt": _utf8(prompt), "options": _json(merged)}
        return self._send(fields, npz=merged["format"] == "npz", timeout_s=timeout_s)

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
        merged = {**(options or {}), **more, "format": "npz"}
        fields = {"record": encode(_without_maps(record)), "options": _json(merged)}
        picture = image if image is None or isinstance(image, bytes) else Path(image).read_bytes()
        picture = record.picture[1] if picture is None and record.picture is not None else picture
        if picture is not None:
            fields["image"] = picture
        again = decode(self._send(fields, npz=True, timeout_s=timeout_s))
        return _with_picture(again, picture) if keep_picture and picture is not None else again

    def _send(self, fields: Mapping[str, bytes], *, npz: bool, timeout_s: float | None) -> bytes:
        patience = Patience(self._retry_s, self._timeout_s if timeout_s is None else timeout_s, known=self._answered)
        while True:
            try:
                reply = self._transport.send(fields, npz=npz, timeout_s=patience.left_s)
                self._answered = True
                raise_handler_error(reply)
                return reply
            except RequestError as error:
                self._answered |= not isinstance(error, ServerUnreachable)
                pause_s = patience.wait_s(error)
                if pause_s is None:
                    raise
            time.sleep(pause_s)

    def ready(self, timeout_s: float = 5.0) -> bool:
        """Whether the model's worker answers within `timeout_s` seconds.

        The server's ping says yes long before a model is loaded, so this sends an empty request and takes the
        handler's refusal of it as the sign. A worker busy with a long answer counts as not ready.

        Raises:
            RequestError: for a wrong token or an unknown model, which waiting will not cure.
        """
        try:
            raise_handler_error(self._transport.send({}, npz=True, timeout_s=timeout_s))
        except RequestError as error:
            if error.code in WILL_NOT_HELP_CODES:
                raise
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


def _with_picture(record: Record, data: bytes) -> Record:
    try:
        return record.with_picture(*prepare_picture(data))
    except PictureError as error:
        # The answer is there and may have cost minutes; it is worth more than the picture.
        warnings.warn(f"the record carries no picture: {error}", stacklevel=3)
        return record


def _without_maps(record: Record) -> Record:
    """What a replay needs of a record: a file must hold a view, so the smallest one stays."""
    smallest = min(record.views.values(), key=lambda view: view.stored.nbytes)
    return replace(record, views={smallest.name: smallest}, run={}, picture=None, alternatives=())


def _utf8(prompt: str) -> bytes:
    try:
        return prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(
            "invalid", "prompt", f"got a lone surrogate at character {error.start}, allowed text; remove it"
        ) from error


def _json(options: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(dict(options), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise RequestError("invalid", "options", f"got {error}, allowed plain JSON values; convert them") from error
