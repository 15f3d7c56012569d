"""One typed error for each refusal, whoever spoke and over whichever transport.

Flow: status or gRPC code + text -> the handler's own error body, else a rule for TorchServe's words, else the number.
The table in docs/http-api.md and docs/grpc.md is this file in prose.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from llava_viewer.client.address import shown
from llava_wire.errors import RequestError

NOT_READY_CODES = frozenset({"overloaded", "unavailable", "worker_died", "deadline"})
WILL_NOT_HELP_CODES = frozenset({"unauthorized", "not_found"})
"""What a readiness question cannot wait out."""

_ERROR_BODY = re.compile(rb'\s*\{\s*"error"\s*:')
_OVER_SIZE_BYTES = 1 << 20
"""A server's size limit is always above this; a smaller request that was cut off had another cause."""


class ServerUnreachable(RequestError, ConnectionError):
    """Nothing answers at the address: wrong address, server not started or still starting."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            "unavailable",
            "server",
            f"got no connection to {shown(address)} ({_short(reason.replace(address, shown(address)))}), allowed a "
            "running server; start it with `make serve` or name its address",
        )


_UNKNOWN_MODEL = "got an unknown model, allowed a served one; check its name"


class _Rule(NamedTuple):
    """TorchServe's own words for a refusal, the same over both transports, and what they mean."""

    words: str
    code: str
    field: str
    message: str


_RULES = (
    _Rule(
        "Token Authorization failed",
        "unauthorized",
        "token",
        "got a missing, wrong or expired key, allowed the server's current one; on its own machine name none and unset "
        "LLAVA_GAZE_TOKEN, elsewhere name its key_file.json, or put the key in LLAVA_GAZE_TOKEN",
    ),
    _Rule("Model not found", "not_found", "model", _UNKNOWN_MODEL),
    _Rule("Model version", "not_found", "model", "got an unknown version, allowed a served one; leave it out"),
    _Rule("Parameter model_name is required", "not_found", "model", "got no model name, allowed a served one; name it"),
    _Rule(
        "has no worker to serve",
        "overloaded",
        "server",
        "got a full queue or no worker, allowed fewer requests at a time; wait and send it again",
    ),
    _Rule(
        "Concurrent RPC limit exceeded",
        "overloaded",
        "server",
        "got too many calls at once, allowed fewer at a time; wait and send it again",
    ),
    _Rule(
        "Worker died",
        "worker_died",
        "server",
        "got a worker that died over the request, allowed one that answers; it restarts by itself, "
        "see the server's log before sending it again",
    ),
    _Rule(
        "Out of resources",
        "does_not_fit",
        "server",
        "got out of memory on the server, allowed what fits; name fewer layers, heads or steps, or wait",
    ),
    _Rule("Prediction failed", "internal", "server", "got an error inside the server, allowed none; see its log"),
    _Rule(
        "ErrorDataDecoderException", "bad_request", "body", "got a malformed form, allowed multipart/form-data; mend it"
    ),
    _Rule(
        "only accepts HTTPS requests",
        "bad_request",
        "url",
        "got http://, allowed https:// at this server; change the url",
    ),
    _Rule("Requested resource is not found", "not_found", "url", "got an unknown path, allowed the server's root"),
)

_HTTP_CODES = {
    401: "unauthorized",
    403: "unauthorized",
    404: "not_found",
    405: "not_found",
    408: "deadline",
    413: "too_large",
    415: "unsupported_media",
    422: "invalid",
    429: "overloaded",
    500: "internal",
    504: "deadline",
    507: "does_not_fit",
}
_GRPC_CODES = {
    "PERMISSION_DENIED": "unauthorized",
    "UNAUTHENTICATED": "unauthorized",
    "NOT_FOUND": "not_found",
    "UNIMPLEMENTED": "not_found",
    "INVALID_ARGUMENT": "bad_request",
    "FAILED_PRECONDITION": "invalid",
    "RESOURCE_EXHAUSTED": "too_large",
    "DEADLINE_EXCEEDED": "deadline",
    "INTERNAL": "internal",
}
_NO_CONNECTION = (
    "failed to connect",
    "errors resolving",
    "Connection refused",
    "name resolution",
    "DNS resolution",
    "Failed parsing HTTP/2",
)


def raise_handler_error(body: bytes) -> None:
    """Raises the handler's own refusal when the body is one; over gRPC it comes in place of the record."""
    if not _ERROR_BODY.match(body):
        return
    try:
        error = RequestError.from_body(json.loads(body))
    except ValueError:
        return
    if error is not None:
        raise error


def from_http(status: int, body: bytes, sent_bytes: int) -> RequestError:
    """The error for an HTTP status that is not 200 and its body.

    Args:
        status: the HTTP status.
        body: the reply's body, in the handler's form, in TorchServe's, or empty.
        sent_bytes: size of the request's fields.
    """
    try:
        raise_handler_error(body)
    except RequestError as error:
        return error
    text = body[:2000].decode("utf-8", "replace")
    rule = _rule_for(text)
    if rule:
        return RequestError(rule.code, rule.field, rule.message)
    code = _HTTP_CODES.get(status, "bad_request" if 400 <= status < 500 else "unavailable")
    if code == "too_large":
        return _too_large(sent_bytes)
    return RequestError(code, "server", f"got HTTP {status} ({_short(text) or 'no text'}), allowed 200; see its log")


def from_grpc(code_name: str, details: str, address: str, sent_bytes: int, timeout_s: float) -> RequestError:
    """The error for a gRPC status that is not OK.

    Args:
        code_name: such as "INTERNAL".
        details: the status message.
        address: HOST:PORT, for the advice.
        sent_bytes: size of the request's fields.
        timeout_s: the deadline that the call had.
    """
    rule = _rule_for(details)
    if rule:
        return RequestError(rule.code, rule.field, rule.message)
    if code_name == "UNAVAILABLE" and any(words in details for words in _NO_CONNECTION):
        # gRPC's text repeats itself; what went wrong with the last address is enough.
        return ServerUnreachable(address, details.rpartition("last error: ")[2].removeprefix("UNKNOWN: "))
    if code_name == "CANCELLED" and sent_bytes > _OVER_SIZE_BYTES:
        # The server resets the stream of a request over its limit and says no more than that.
        return _too_large(sent_bytes)
    if code_name == "DEADLINE_EXCEEDED":
        return timed_out(timeout_s)
    if code_name == "UNAVAILABLE" or code_name == "CANCELLED":
        return broken_off(details)
    if code_name == "UNIMPLEMENTED":
        return RequestError(
            "not_found",
            "server",
            f"got a gRPC server at {shown(address)} without predictions, allowed its inference port",
        )
    code = _GRPC_CODES.get(code_name, "unavailable")
    return RequestError(code, "server", f"got gRPC {code_name} ({_short(details)}), allowed OK; see the server's log")


def with_served(error: RequestError, model: str, served: Sequence[str]) -> RequestError:
    """The error about a model that a server has not, with the name that was asked for and those that it has.

    Args:
        error: any refusal; another one is given back as it is.
        served: the models that the server is known to have; empty when nobody knows, since TorchServe does not say.
    """
    if (error.code, error.field, error.message) != ("not_found", "model", _UNKNOWN_MODEL):
        return error
    allowed = f"one that is served here: {', '.join(served)}" if served else "one that the server was started with"
    return RequestError("not_found", "model", f"got an unknown model {model!r}, allowed {allowed}; name it (--model)")


def timed_out(timeout_s: float) -> RequestError:
    """The error for a server that did not answer in time."""
    return RequestError(
        "deadline", "timeout_s", f"got no answer, allowed {timeout_s:g} s; ask for fewer tokens or wait longer"
    )


def broken_off(reason: str) -> RequestError:
    """The error for a connection that ended inside a request or a reply."""
    return RequestError(
        "unavailable",
        "server",
        f"got a connection that broke off ({_short(reason)}), allowed a whole reply; send it again",
    )


def missing_package(name: str, extra: str) -> ImportError:
    """The error for a transport whose package is not installed."""
    return ImportError(
        f"{name}: got no such package, allowed an installed one; install llava-gaze with its extra {extra!r} "
        f"(in a checkout: pip install '.[{extra}]')"
    )


def _rule_for(text: str) -> _Rule | None:
    return next((rule for rule in _RULES if rule.words in text), None)


def _too_large(sent_bytes: int) -> RequestError:
    return RequestError(
        "too_large", "image", f"got a request of {sent_bytes} bytes, allowed the server's limit; send a smaller file"
    )


def _short(text: str) -> str:
    """One printable line of at most 200 characters."""
    line = "".join(char if char.isprintable() else " " for char in text).strip()
    return line if len(line) <= 200 else line[:197] + "..."
