"""Requests over gRPC: TorchServe's unary Predictions.

Flow: fields -> PredictionsRequest -> PredictionResponse -> reply bytes or a typed error. TorchServe cannot set a status
for the handler: its refusals come with OK, in place of the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llava_viewer.client.address import LOOPBACK
from llava_viewer.client.auth import Token, bearer
from llava_viewer.client.errors import from_grpc, missing_package
from llava_wire.container import MAX_FILE_BYTES
from llava_wire.errors import RequestError


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

            from llava_viewer.client.messages import PREDICTIONS, messages

            self._messages = messages()
        except ImportError as error:
            raise missing_package("grpcio or protobuf", "grpc") from error
        self._grpc: Any = grpc
        host, _, port = target.rpartition(":")
        if not host or "/" in target or not port.isascii() or not port.isdigit():
            raise ValueError(f"target: got {target!r}, allowed HOST:PORT such as 127.0.0.1:7070; leave http:// out")
        self._target, self._model, self._token = target, model, token
        options = [
            # gRPC's own limit of 4 MiB is below what a record may weigh.
            ("grpc.max_receive_message_length", min(MAX_FILE_BYTES, 2**31 - 1)),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_http_proxy", 0 if host.strip("[]") in LOOPBACK else 1),
        ]
        if tls or ca_file:
            credentials = grpc.ssl_channel_credentials(ca_file.read_bytes() if ca_file else None)
            self._channel = grpc.secure_channel(target, credentials, options=options)
        else:
            self._channel = grpc.insecure_channel(target, options=options)
        self._call = self._channel.unary_unary(
            PREDICTIONS,
            request_serializer=self._messages.PredictionsRequest.SerializeToString,
            response_deserializer=self._messages.PredictionResponse.FromString,
        )

    def send(self, fields: Mapping[str, bytes], *, npz: bool, timeout_s: float) -> bytes:
        """See `Transport.send`; `npz` is the default of gRPC and otherwise stands in the options."""
        request = self._messages.PredictionsRequest(model_name=self._model, input=dict(fields))
        metadata = tuple(bearer(self._token).items())
        try:
            reply = self._call(request, timeout=timeout_s, metadata=metadata)
        except self._grpc.RpcError as error:
            sent_bytes = sum(map(len, fields.values()))
            raise from_grpc(
                error.code().name, str(error.details() or ""), self._target, sent_bytes, timeout_s
            ) from error
        return bytes(reply.prediction)

    def stream(self, fields: Mapping[str, bytes], *, timeout_s: float) -> Iterator[bytes]:
        """Refuses: over gRPC answers come whole."""
        raise RequestError("invalid", "options.stream", "got true over gRPC, allowed false; make the client with http")

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()
