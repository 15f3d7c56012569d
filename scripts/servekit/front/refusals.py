"""What the front says in TorchServe's place: one function per reason, the same over HTTP and gRPC."""

from __future__ import annotations

from llava_wire.errors import RequestError

RETRY_S = 2
"""What `Retry-After` says with every 503."""


def no_key() -> RequestError:
    """Neither a named key nor the server's own."""
    words = "got a missing, wrong or expired key, expected one of this server's keys; send Authorization: Bearer KEY"
    return RequestError("unauthorized", "token", words)


def not_a_request(reason: str) -> RequestError:
    """Bytes that are no HTTP request."""
    return RequestError(
        "bad_request", "server", f"got bytes that are not an HTTP request ({reason}), expected one; correct it"
    )


def not_a_message() -> RequestError:
    """Bytes that are no PredictionsRequest."""
    return RequestError(
        "bad_request", "server", "got bytes that are not a PredictionsRequest, expected one; correct it"
    )


def too_slow(seconds: float) -> RequestError:
    """A body that did not come."""
    words = (
        f"got a body that did not arrive in time, expected all of it in {seconds:.0f} s with no pause of 30 s; "
        "send it again"
    )
    return RequestError("bad_request", "server", words)


def too_large(limit: int) -> RequestError:
    """A body over the limit."""
    return RequestError("too_large", "body", f"got more than {limit} bytes, expected at most {limit}; send less")


def too_many(what: str, limit: int) -> RequestError:
    """Fields, parts or names over their limit."""
    return RequestError("invalid", "body", f"got more than {limit} {what}, expected at most {limit}; send fewer")


def urlencoded() -> RequestError:
    """A form of a kind in which no picture should be sent."""
    words = (
        "got 'application/x-www-form-urlencoded', expected a form or JSON; POST multipart/form-data "
        "(curl -F image=@FILE -F prompt=TEXT) or a JSON object with base64 in `image` to /predictions/<model>"
    )
    return RequestError("unsupported_media", "content-type", words)


def bad_form(reason: str) -> RequestError:
    """A form that cannot be taken apart in one way only."""
    return RequestError("bad_request", "body", f"got a form with {reason}, expected one as browsers and curl send it")


def full(what: str) -> RequestError:
    """More than fits at once."""
    return RequestError("overloaded", "server", f"too many {what} at once; retry in {RETRY_S} s")


def gone() -> RequestError:
    """No TorchServe behind."""
    words = "server is starting or has stopped; retry"
    return RequestError("unavailable", "server", words)


def silent() -> RequestError:
    """Workers that show no sign of life."""
    words = "the model's workers show no sign of life and are being restarted; retry"
    return RequestError("unavailable", "server", words)


def stopping() -> RequestError:
    """The server is about to stop."""
    words = "server is shutting down; retry"
    return RequestError("unavailable", "server", words)
