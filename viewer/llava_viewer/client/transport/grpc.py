"""Requests over gRPC: TorchServe's unary Predictions.

Flow: fields -> PredictionsRequest -> PredictionResponse -> reply bytes or a typed error. TorchServe cannot set a status
for the handler: its refusals come with OK, in place of the record.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llava_viewer.client.address import LOOPBACK, shown
from llava_viewer.client.auth import Token, bearer
from llava_viewer.client.errors import from_grpc, missing_package, reply_too_large
from llava_viewer.client.protocol import DEFAULT_REPLY_BYTES
from llava_viewer.client.transport.messages import PREDICTIONS, messages
from llava_wire.errors import RecordError, RequestError

_MESSAGE_BYTES = 64
"""What a reply's message has around the prediction, at most."""
_TOO_LARGE = "CLIENT: Received message larger than max"


class GrpcTransport:
    """A gRPC channel to one model.

    Args:
        target: HOST:PORT of the inference address.
        model: the served model's name.
        token: see `llava_viewer.client.auth`.
        tls: encrypt.
        ca_file: PEM certificates to trust; implies `tls`.
    """

    def __init__(self, target: str, model: str, token: Token, tls: bool, ca_file: Path | None) -> None:
        try:
            import grpc
            from google.protobuf.message import DecodeError

            self._messages = messages()
        except ImportError as error:
            raise missing_package("grpcio or protobuf", "grpc") from error
        self._grpc: Any = grpc
        self._decode_error = DecodeError
        host, _, port = target.rpartition(":")
        if not host or "/" in target or not port.isascii() or not port.isdigit():
            raise ValueError(f"target: got {target!r}, expected HOST:PORT such as 127.0.0.1:7070; leave http:// out")
        self._target, self._model, self._token = target, model, token
        self._options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_http_proxy", 0 if host.strip("[]") in LOOPBACK else 1),
            # A small message can unpack to any size, and gRPC looks at the size afterwards.
            ("grpc.per_message_decompression", 0),
            ("grpc.compression_enabled_algorithms_bitset", 1),
        ]
        self._credentials: Any = None
        if tls or ca_file:
            self._credentials = grpc.ssl_channel_credentials(ca_file.read_bytes() if ca_file else None)
        self._calls: dict[int, Callable[..., Any]] = {}
        self._channels: list[Any] = []
        self._lock = threading.Lock()

    def send(
        self, fields: Mapping[str, bytes], *, npz: bool, timeout_s: float, most_bytes: int = DEFAULT_REPLY_BYTES
    ) -> bytes:
        """See `Transport.send`; `npz` is the default of gRPC and otherwise stands in the options."""
        request = self._messages.PredictionsRequest(model_name=self._model, input=dict(fields))
        metadata = tuple(bearer(self._token).items())
        try:
            reply: bytes | None = self._call(most_bytes)(request, timeout=timeout_s, metadata=metadata)
        except self._grpc.RpcError as error:
            raise self._typed(error, sum(map(len, fields.values())), timeout_s, most_bytes) from error
        try:
            # A call can end with OK and no message at all.
            return bytes(self._messages.PredictionResponse.FromString(reply).prediction)
        except (self._decode_error, TypeError) as error:
            found = "no message" if reply is None else f"{len(reply)} bytes that are no PredictionResponse"
            raise RecordError(
                "not_a_record",
                f"reply: got {found}, expected TorchServe's message; is {shown(self._target)} its inference port?",
            ) from error

    def _call(self, most_bytes: int) -> Callable[..., Any]:
        """Predictions on a channel that takes replies of that size: gRPC has one limit for a channel."""
        with self._lock:
            if most_bytes not in self._calls:
                options = [*self._options, ("grpc.max_receive_message_length", most_bytes + _MESSAGE_BYTES)]
                channel = (
                    self._grpc.insecure_channel(self._target, options=options)
                    if self._credentials is None
                    else self._grpc.secure_channel(self._target, self._credentials, options=options)
                )
                self._channels.append(channel)
                # The reply is taken apart here: gRPC would log the traceback of one that cannot be.
                self._calls[most_bytes] = channel.unary_unary(
                    PREDICTIONS, request_serializer=self._messages.PredictionsRequest.SerializeToString
                )
            return self._calls[most_bytes]

    def _typed(self, error: Any, sent_bytes: int, timeout_s: float, most_bytes: int) -> RequestError:
        """The error of a call that ended with another status than OK."""
        details = str(error.details() or "")
        if _TOO_LARGE in details:
            return reply_too_large(most_bytes)
        said = {item[0]: item[1] for item in error.trailing_metadata() or ()}
        retry_after = said.get("retry-after", "")
        return from_grpc(
            error.code().name, details, self._target, sent_bytes, timeout_s,
            retry_after=retry_after if isinstance(retry_after, str) else "",
        )  # fmt: skip

    def stream(
        self, fields: Mapping[str, bytes], *, timeout_s: float, most_bytes: int = DEFAULT_REPLY_BYTES
    ) -> Iterator[bytes]:
        """Refuses: over gRPC answers come whole."""
        raise RequestError("invalid", "options.stream", "got true over gRPC, expected false; make the client with http")

    def close(self) -> None:
        """Closes the channels."""
        with self._lock:
            for channel in self._channels:
                channel.close()
