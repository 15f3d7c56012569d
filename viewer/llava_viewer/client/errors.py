"""One typed error for each refusal, whoever spoke and over whichever transport.

Flow: status or gRPC code + text -> the handler's own error body, else a rule for TorchServe's words, else the number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from llava_viewer.client.address import shown
from llava_viewer.client.waiting import seconds_named
from llava_viewer.client.words import GRPC_CODES, HTTP_CODES, NO_CONNECTION, RULES, UNKNOWN_MODEL, Rule
from llava_wire.errors import RequestError

NOT_READY_CODES = frozenset({"overloaded", "unavailable", "worker_died", "deadline"})
WILL_NOT_HELP_CODES = frozenset({"unauthorized", "not_found"})
"""What a readiness question cannot wait out."""
_WAITED_OUT_CODES = frozenset({"overloaded", "unavailable", "worker_died"})

_IN_WORDS = re.compile(
    r"(?P<field>[a-z_]{1,40}): (?P<message>got .+, (?:expected|allowed) .+|[^:]+; retry[^;:]*)", re.DOTALL
)
"""What the front before the server says over gRPC, where a status has words and no body."""
_FRONT_CODES = {"INVALID_ARGUMENT": "bad_request", "RESOURCE_EXHAUSTED": "overloaded", "UNAVAILABLE": "unavailable"}
_FRONT_ENDS = {"; send less": "too_large", "; send fewer": "invalid"}
_ERROR_BODY = re.compile(rb'\s*\{\s*"error"\s*:')
_OVER_SIZE_BYTES = 1 << 20
"""A server's size limit is always above this; a smaller request that was cut off had another cause."""


class ServerUnreachable(RequestError, ConnectionError):
    """Nothing answers at the address: wrong address, server not started or still starting."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            "unavailable",
            "server",
            f"got no connection to {shown(address)} ({_short(reason.replace(address, shown(address)))}), expected a "
            "running server; start it with `make serve` or name its address",
        )


class ServerBusy(RequestError):
    """The server is full and said how long to wait before the request is worth sending again.

    Args:
        retry_after_s: seconds, 0 or more.
    """

    def __init__(self, code: str, field: str, message: str, retry_after_s: float) -> None:
        super().__init__(code, field, message)
        self.retry_after_s = retry_after_s


def raise_handler_error(body: bytes) -> None:
    """Raises the handler's own refusal when the body is one; over gRPC it comes in place of the record."""
    if not _ERROR_BODY.match(body):
        return
    try:
        error = RequestError.from_body(json.loads(body))
    except (ValueError, RecursionError):
        return
    if error is not None:
        raise error


def from_http(status: int, body: bytes, sent_bytes: int, *, retry_after: str = "", location: str = "") -> RequestError:
    """The error for an HTTP status that is not 200 and its body.

    Args:
        status: the HTTP status.
        body: the reply's body, in the handler's form, in TorchServe's, or empty.
        sent_bytes: size of the request's fields.
        retry_after, location: the headers of that name.
    """
    wait_s = seconds_named(retry_after)
    return _to_wait_out(_of_http(status, body, sent_bytes, location, full=wait_s is not None), wait_s)


def _of_http(status: int, body: bytes, sent_bytes: int, location: str, *, full: bool) -> RequestError:
    try:
        raise_handler_error(body)
    except RequestError as error:
        return error
    if 300 <= status < 400:
        return RequestError(
            "not_found",
            "url",
            f"got HTTP {status}, a redirect to {_short(shown(location)) or 'nowhere'}, expected an address that "
            "answers itself; name that one if you trust it with the key",
        )
    text = body[:2000].decode("utf-8", "replace")
    rule = _rule_for(text)
    if rule:
        return RequestError(rule.code, rule.field, rule.message)
    code = HTTP_CODES.get(status, "bad_request" if 400 <= status < 500 else "unavailable")
    if status == 503 and full:  # alone it says no more than its number
        code = "overloaded"
    if code == "too_large":
        return _too_large(sent_bytes)
    return RequestError(code, "server", f"got HTTP {status} ({_short(text) or 'no text'}), expected 200; see its log")


def from_grpc(
    code_name: str, details: str, address: str, sent_bytes: int, timeout_s: float, *, retry_after: str = ""
) -> RequestError:
    """The error for a gRPC status that is not OK.

    Args:
        code_name: such as "INTERNAL".
        details: the status message.
        address: HOST:PORT, for the advice.
        sent_bytes: size of the request's fields.
        timeout_s: the deadline that the call had.
        retry_after: the trailing metadata of that name.
    """
    wait_s = seconds_named(retry_after)
    error = _of_grpc(code_name, details, address, sent_bytes, timeout_s, full=wait_s is not None)
    return _to_wait_out(error, wait_s)


def _of_grpc(
    code_name: str, details: str, address: str, sent_bytes: int, timeout_s: float, *, full: bool
) -> RequestError:
    rule = _rule_for(details)
    if rule:
        return RequestError(rule.code, rule.field, rule.message)
    said = _IN_WORDS.fullmatch(details)
    if said and code_name in _FRONT_CODES:
        code = next((code for end, code in _FRONT_ENDS.items() if details.endswith(end)), _FRONT_CODES[code_name])
        return RequestError(code, said["field"], said["message"])
    if full and code_name in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"):
        return RequestError(
            "overloaded",
            "server",
            f"got a full server ({_short(details) or 'no text'}), expected fewer requests at a time; send it again",
        )
    if code_name == "UNAVAILABLE" and any(words in details for words in NO_CONNECTION):
        # gRPC's text repeats itself; what went wrong with the last address is enough.
        return ServerUnreachable(address, details.rpartition("last error: ")[2].removeprefix("UNKNOWN: "))
    if code_name == "RESOURCE_EXHAUSTED" and "larger than max" in details:
        return _too_large(sent_bytes)
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
            f"got a gRPC server at {shown(address)} without predictions, expected its inference port",
        )
    code = GRPC_CODES.get(code_name, "unavailable")
    return RequestError(code, "server", f"got gRPC {code_name} ({_short(details)}), expected OK; see the server's log")


def with_served(error: RequestError, model: str, served: Sequence[str]) -> RequestError:
    """The error about a model that a server has not, with the name that was asked for and those that it has.

    Args:
        error: any refusal; another one is given back as it is.
        served: the models that the server is known to have; empty when nobody knows, since TorchServe does not say.
    """
    if (error.code, error.field, error.message) != ("not_found", "model", UNKNOWN_MODEL):
        return error
    allowed = f"one that is served here: {', '.join(served)}" if served else "one that the server was started with"
    return RequestError("not_found", "model", f"got an unknown model {model!r}, expected {allowed}; name it (--model)")


def timed_out(timeout_s: float, before: RequestError | None = None) -> RequestError:
    """The error for a server that did not answer in time.

    Args:
        timeout_s: the time that the request had.
        before: what became of the attempt before the last one.
    """
    earlier = f" (an attempt before ended with {before.message:.300})" if before else ""
    return RequestError(
        "deadline",
        "timeout_s",
        f"got no answer, expected {timeout_s:g} s; ask for fewer tokens or wait longer{earlier}",
    )


def broken_off(reason: str) -> RequestError:
    """The error for a connection that ended inside a request or a reply."""
    return RequestError(
        "unavailable",
        "server",
        f"got a connection that broke off ({_short(reason)}), expected a whole reply; send it again",
    )


def reply_too_large(most_bytes: int) -> RequestError:
    """The error for a reply that is larger than what is read."""
    return RequestError(
        "too_large",
        "server",
        f"got a reply of more than {most_bytes} bytes, expected what the request can bring; ask for fewer views, "
        "layers or steps, or allow more (max_reply_bytes, --max-reply) where the server may send it",
    )


def missing_package(name: str, extra: str) -> ImportError:
    """The error for a transport whose package is not installed."""
    return ImportError(
        f"{name}: got no such package, expected an installed one; install llava-gaze with its extra {extra!r} "
        f"(in a checkout: pip install '.[{extra}]')"
    )


def _to_wait_out(error: RequestError, wait_s: float | None) -> RequestError:
    if wait_s is None or error.code not in _WAITED_OUT_CODES:
        return error
    return ServerBusy(error.code, error.field, f"{error.message}; it asks to be left alone for {wait_s:g} s", wait_s)


def _rule_for(text: str) -> Rule | None:
    return next((rule for rule in RULES if rule.words in text), None)


def _too_large(sent_bytes: int) -> RequestError:
    return RequestError(
        "too_large", "image", f"got a request of {sent_bytes} bytes, expected the server's limit; send a smaller file"
    )


def _short(text: str) -> str:
    """One printable line of at most 200 characters."""
    line = "".join(char if char.isprintable() else " " for char in text).strip()
    return line if len(line) <= 200 else line[:197] + "..."
