"""How a gRPC call ends that is not answered: its code, words and metadata.

Flow: what was raised (a refusal of the front, or TorchServe's own error) -> `Refusal` -> the call ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import grpc

from llava_wire.errors import RequestError
from servekit.front import refusals
from servekit.front.room import NoRoom

_NO_KEY = "Token Authorization failed. Token either incorrect, expired, or not provided correctly"
"""TorchServe's own words, so that clients need to know one refusal only."""
_CODES = {
    "unauthorized": grpc.StatusCode.PERMISSION_DENIED,
    "bad_request": grpc.StatusCode.INVALID_ARGUMENT,
    "invalid": grpc.StatusCode.INVALID_ARGUMENT,
    "too_large": grpc.StatusCode.INVALID_ARGUMENT,
    "overloaded": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "unavailable": grpc.StatusCode.UNAVAILABLE,
}

_FULL = "has no worker to serve"
"""TorchServe's words for a full queue or a model whose workers start: 503 over HTTP, and INTERNAL over gRPC."""
_AGAIN = (("retry-after", str(refusals.RETRY_S)),)
"""What `Retry-After` says over HTTP, where every 503 has it: those of the front and those of TorchServe."""


def passed_on(error: grpc.aio.AioRpcError) -> BaseException:
    """What to raise for an error of a passed call: TorchServe's own reply, or that nobody listens."""
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE and "failed to connect" in details.lower():
        return refusals.gone()
    return Passed(grpc.StatusCode.UNAVAILABLE if _FULL in details else code, details)


class Passed(Exception):
    """An error of TorchServe's own, without the call that it came from: gRPC keeps what is raised for long."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code, self.details = code, details


REFUSALS = (Passed, RequestError, NoRoom)
"""What may end a call; anything else is a fault of the front."""


@dataclass(frozen=True)
class Refusal:
    """How a call ends that is refused, made anew from what was raised and held by nothing of it.

    gRPC keeps what ends a call for long, and an exception that is raised while another is handled keeps that one: its
    traceback would hold the call's message. So calls end outside of every handler.
    """

    code: grpc.StatusCode
    details: str
    trailing: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, error: BaseException) -> Refusal:
        """The end that tells of one of `REFUSALS`."""
        if isinstance(error, Passed):
            return cls(error.code, error.details, _AGAIN if error.code is grpc.StatusCode.UNAVAILABLE else ())
        told = error if isinstance(error, RequestError) else refusals.full("requests")
        details = _NO_KEY if told.code == "unauthorized" else str(told)
        return cls(_CODES[told.code], details, _AGAIN if told.code in ("overloaded", "unavailable") else ())

    async def end(self, context: Any) -> NoReturn:
        """Ends the call."""
        await context.abort(self.code, self.details, self.trailing)
        raise AssertionError("abort raises")
