"""The two exceptions that cross the wire: a refused request, and bytes that are not a record.

Flow: a check fails -> `RequestError` -> `to_body()` -> HTTP or gRPC -> `from_body()` -> the same `RequestError`.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from typing import Any

STATUSES: dict[str, int] = {
    "bad_request": 400,
    "unauthorized": 400,
    "not_found": 404,
    "too_large": 413,
    "unsupported_media": 415,
    "invalid": 422,
    "internal": 500,
    "worker_died": 500,
    "overloaded": 503,
    "unavailable": 503,
    "deadline": 503,
    "does_not_fit": 507,
}
"""Every error code with its HTTP status. `unauthorized` is 400 because TorchServe's own token check says 400."""


MAX_FIELD_CHARS = 120
MAX_MESSAGE_CHARS = 2000


class RequestError(Exception):
    """A request that was refused, with the field at fault and what to do about it.

    Field and message may quote a stranger: they are cut, and what a screen would not show as it is (line breaks,
    changes of direction, half characters) is escaped, so that every error can be encoded, logged and printed.

    Args:
        code: one of `STATUSES`; decides the HTTP status.
        field: the request's field at fault, such as "options.layers[1]".
        message: "got X, expected Y; do Z".
    """

    def __init__(self, code: str, field: str, message: str) -> None:
        if code not in STATUSES:
            raise ValueError(f"code: got {code!r}, expected {sorted(STATUSES)}")
        self.code = code
        self.status = STATUSES[code]
        self.field = _printable(field, MAX_FIELD_CHARS)
        self.message = _printable(message, MAX_MESSAGE_CHARS)
        super().__init__(f"{self.field}: {self.message}")

    def to_body(self) -> dict[str, Any]:
        """The JSON body that carries this error over HTTP and gRPC."""
        return {"error": {"code": self.code, "status": self.status, "field": self.field, "message": self.message}}

    @classmethod
    def from_body(cls, body: object) -> RequestError | None:
        """The error in a decoded JSON body, or None when the body is not in this project's error form."""
        error = body.get("error") if isinstance(body, dict) else None
        code = error.get("code") if isinstance(error, dict) else None
        if not isinstance(error, dict) or not isinstance(code, str) or code not in STATUSES:
            return None
        return cls(code, str(error.get("field", "")), str(error.get("message", "")))


class RecordError(ValueError):
    """Bytes that cannot be read as a record; `reason` is one word that programs can test.

    Reasons: "not_a_record", "truncated", "too_large", "unsupported_version", "invalid".
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _Beginning(reprlib.Repr):
    """Shows the beginning of a value: the whole of a stranger's may be megabytes, or nested too deep to write."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 76, 76

    def repr_int(self, value: int, level: int) -> str:
        """Python writes no whole number of more than some thousand digits."""
        return repr(value) if value.bit_length() < 200 else f"a whole number of {value.bit_length()} bits"


_BEGINNING = _Beginning()


def beginning(value: object) -> str:
    """A value as Python writes it, at most 80 characters of it, whatever it is."""
    return f"{_BEGINNING.repr(value):.80}"


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint naming the known name closest to a misspelt one, or an empty string."""
    close = difflib.get_close_matches(name[:MAX_FIELD_CHARS], list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _printable(text: str, limit: int) -> str:
    text = text if len(text) <= limit else text[: limit - 3] + "..."
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
