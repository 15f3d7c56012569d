"""A client's connection to one model of one server: how it is made, how it sends and repeats, whether it is ready.

Flow: an address, or a server of this machine -> `Transport` -> `Connection.send` -> reply bytes or a typed error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from llava_viewer.client.address import DEFAULT_TARGET, DEFAULT_URL, default_model, shown, split_url
from llava_viewer.client.auth import Token, or_key_file
from llava_viewer.client.errors import (
    NOT_READY_CODES,
    WILL_NOT_HELP_CODES,
    ServerUnreachable,
    raise_handler_error,
    with_served,
)
from llava_viewer.client.fields import pictures_in
from llava_viewer.client.local import choose_model, require_server
from llava_viewer.client.protocol import DEFAULT_REPLY_BYTES, DEFAULT_TIMEOUT_S, Transport
from llava_viewer.client.retry import DEFAULT_RETRY_S, Patience, patiently
from llava_viewer.client.sizes import READY_BYTES, reply_bytes
from llava_wire.errors import RecordError, RequestError

Result = TypeVar("Result")


class Connection:
    """A connection to one model of one server; usable from several threads, and as a context manager."""

    def __init__(
        self,
        transport: Transport,
        *,
        model: str | None = None,
        served: Sequence[str] = (),
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry_s: float = DEFAULT_RETRY_S,
        max_reply_bytes: int = DEFAULT_REPLY_BYTES,
    ) -> None:
        self._transport = transport
        self._model = model or default_model()
        self._served = tuple(served)
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._max_reply_bytes = max_reply_bytes
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
        max_reply_bytes: int = DEFAULT_REPLY_BYTES,
        ca_file: Path | None = None,
        served: Sequence[str] = (),
    ) -> Self:
        """A client over HTTP; needs the extra `http`.

        Args:
            url: the server's inference address, or that of a model's predictions, as the server prints it; https:// for
                TLS.
            model: the served model's name; None for the one that the url names, else LLAVA_GAZE_MODEL, else
                llava-things.
            token: the key itself, or the path of TorchServe's key_file.json, which is read afresh for every request,
                or None for the environment's LLAVA_GAZE_TOKEN (none at all where that is not set).
            timeout_s: seconds until a request is given up: name lookup, connecting, TLS, sending and the whole reply,
                with all repetitions and the pauses between them.
            retry_s: seconds in which a request is sent again when the server was overloaded, its worker died, or the
                connection to a server that had answered before was lost; 0 for never.
            max_reply_bytes: the largest reply that is read of any request; most requests can bring less, and no more is
                read then. Raise it for a server whose `max_response_bytes` was raised.
            ca_file: PEM certificates to trust instead of the system's.
            served: the models that the server is known to have, for the error about one that it has not.

        Raises:
            ValueError: for something that is not an http or https address, or names another model than `model`.
            ImportError: without httpcore2.
        """
        from llava_viewer.client.transport.http import HttpTransport

        address, named = split_url(url)
        if model and named and model != named:
            raise ValueError(f"model: got {model!r} beside {shown(url)}, expected one of the two; leave one out")
        model = model or named or default_model()
        transport = HttpTransport(address, model, token, ca_file)
        return cls(
            transport, model=model, served=served, timeout_s=timeout_s, retry_s=retry_s, max_reply_bytes=max_reply_bytes
        )

    @classmethod
    def grpc(
        cls,
        target: str = DEFAULT_TARGET,
        *,
        model: str | None = None,
        token: Token = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry_s: float = DEFAULT_RETRY_S,
        max_reply_bytes: int = DEFAULT_REPLY_BYTES,
        tls: bool = False,
        ca_file: Path | None = None,
        served: Sequence[str] = (),
    ) -> Self:
        """A client over gRPC; needs the extra `grpc`.

        Args:
            target: HOST:PORT of the server's gRPC inference address.
            model: the served model's name; None for LLAVA_GAZE_MODEL, else llava-things.
            token, timeout_s, retry_s, max_reply_bytes, served: as for `Client.http`.
            tls: encrypt, with the system's certificates unless `ca_file` is given.
            ca_file: PEM certificates to trust; implies `tls`.

        Raises:
            ValueError: for something that is not HOST:PORT.
            ImportError: without grpcio or protobuf.
        """
        from llava_viewer.client.transport.grpc import GrpcTransport

        model = model or default_model()
        transport = GrpcTransport(target, model, token, tls, ca_file)
        return cls(
            transport, model=model, served=served, timeout_s=timeout_s, retry_s=retry_s, max_reply_bytes=max_reply_bytes
        )

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
        max_reply_bytes: int = DEFAULT_REPLY_BYTES,
    ) -> Self:
        """A client of a server that runs on this machine, found by the file that it keeps; no address and no key.

        Args:
            name: the server's name, or its run folder's path; None for the environment's LLAVA_GAZE_SERVER, else the
                server "default", else the only one that runs.
            model: None for the only model that it serves.
            grpc: over gRPC instead of HTTP.
            token: None for the environment's LLAVA_GAZE_TOKEN, else the server's own key file.
            timeout_s, retry_s, max_reply_bytes: as for `Client.http`.

        Raises:
            RequestError: no such server runs, or which one or which model is meant is not said.
            ImportError: without the transport's package.
        """
        server = require_server(name)
        return (cls.grpc if grpc else cls.http)(
            server.grpc if grpc else server.http,
            model=model or choose_model(server.models),
            token=or_key_file(token, server.key_file),
            timeout_s=timeout_s,
            retry_s=retry_s,
            max_reply_bytes=max_reply_bytes,
            ca_file=server.certificate,
            served=server.models,
        )

    @classmethod
    def engine(
        cls,
        model: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry_s: float = DEFAULT_RETRY_S,
        say: Callable[[str], None] = lambda line: None,
    ) -> Self:
        """A client of a model in a process of its own, where no server runs; needs what the server needs.

        Args:
            model: a name in model_store, a model's YAML, or a checkpoint folder.
            device: cpu, cuda, cuda:1 or map; dtype: float32, float16 or bfloat16; None for the usual ones.
            timeout_s, retry_s: as for `Client.http`; a process that dies is started again.
            say: gets lines for people.

        Raises:
            RequestError: the model does not load.
        """
        from llava_viewer.client.transport.engine import EngineTransport
        from llava_viewer.client.transport.process import command_of

        transport = EngineTransport(command_of(model, device, dtype), say)
        return cls(transport, model=transport.model, timeout_s=timeout_s, retry_s=retry_s)

    @property
    def model(self) -> str:
        """The name of the model that is asked."""
        return self._model

    def ready(self, timeout_s: float = 5.0) -> bool:
        """Whether the model's worker answers within `timeout_s` seconds.

        The server's ping says yes long before a model is loaded, so this asks the model's worker itself, with a request
        that counts in none of the server's figures. A worker busy with a long answer counts as not ready.

        Raises:
            RequestError: for a wrong token or an unknown model, which waiting will not cure.
        """
        try:
            reply = self._transport.send({"ready": b"1"}, npz=False, timeout_s=timeout_s, most_bytes=READY_BYTES)
            raise_handler_error(reply)
        except RecordError:
            return False
        except RequestError as error:
            if error.code in WILL_NOT_HELP_CODES:
                raise with_served(error, self._model, self._served) from error.__cause__
            # A handler that does not know the question has answered; what is about the server itself is not its word.
            return error.code not in NOT_READY_CODES and error.field != "server"
        return _says_ready(reply)

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def _send(
        self,
        fields: Mapping[str, bytes],
        options: Mapping[str, Any],
        timeout_s: float | None,
        tokens: int | None = None,
    ) -> bytes:
        """The reply to a request, sent again while that can help.

        Args:
            options: those that `fields` holds as bytes.
            tokens: of the answer that is replayed.
        """
        npz, most_bytes = options.get("format") == "npz", self._most_bytes(fields, options, tokens)

        def attempt(left_s: float) -> bytes:
            reply = self._transport.send(fields, npz=npz, timeout_s=left_s, most_bytes=most_bytes)
            raise_handler_error(reply)
            return reply

        return self._patiently(attempt, timeout_s)

    def _most_bytes(self, fields: Mapping[str, bytes], options: Mapping[str, Any], tokens: int | None = None) -> int:
        """The largest reply that a request can bring."""
        question = fields.get("prompt", fields.get("record", b""))
        pictures = len(pictures_in(fields))
        return reply_bytes(options, len(question), self._max_reply_bytes, tokens, pictures=max(1, pictures))

    def _patiently(self, attempt: Callable[[float], Result], timeout_s: float | None) -> Result:
        """The result of the first attempt that succeeds, or the error that is not worth another one."""

        def failed(error: RequestError) -> RequestError:
            self._answered |= not isinstance(error, ServerUnreachable)
            return with_served(error, self._model, self._served)

        whole_s = self._timeout_s if timeout_s is None else timeout_s
        result = patiently(attempt, Patience(self._retry_s, whole_s, known=self._answered), failed)
        self._answered = True
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _says_ready(reply: bytes) -> bool:
    """Whether a reply is the handler's, and no page of something else that answers at the address."""
    try:
        content = json.loads(reply)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("status") == "ready"
