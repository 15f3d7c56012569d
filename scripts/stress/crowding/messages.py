"""Messages of TorchServe's gRPC service, written by hand, so that they may be of any size and shape.

Flow: model and fields -> the bytes of a PredictionsRequest; the bytes of a PredictionResponse -> its body.
"""

from __future__ import annotations

from collections.abc import Sequence

SERVICE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/"


def message(model: str, parts: Sequence[tuple[str, bytes]]) -> bytes:
    """A PredictionsRequest: model_name = 1, map<string, bytes> input = 3."""
    # A name that is not UTF-8 is another kind of damage; see `_grpc_raw`.
    entries = (_member(1, name.encode()) + _member(2, data) for name, data in parts)
    return _member(1, model.encode()) + b"".join(_member(3, entry) for entry in entries)


def _member(number: int, data: bytes) -> bytes:
    size, left = bytearray(), len(data)
    while left > 127:
        size.append(left & 127 | 128)
        left >>= 7
    return bytes([number << 3 | 2, *size, left]) + data


def payload(response: bytes) -> bytes:
    """The body of a PredictionResponse: prediction = 1."""
    if not response.startswith(b"\x0a"):
        return response
    size = shift = 0
    for at in range(1, len(response)):
        size |= (response[at] & 127) << shift
        shift += 7
        if response[at] < 128:
            return response[at + 1 : at + 1 + size]
    return b""
