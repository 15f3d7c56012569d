"""What a sender saw, in one word: an answer, a refusal that says when to come again, or something worse.

Flow: status and headers, or gRPC code and trailing metadata -> word.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

ANSWERED = "answered"
_AGAIN = ", retry after"
_OVERLOAD_HTTP = 503
_OVERLOAD_GRPC = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
_REFUSALS_GRPC = ("INVALID_ARGUMENT", "PERMISSION_DENIED", "UNAUTHENTICATED", "FAILED_PRECONDITION", "NOT_FOUND")
NO_CONNECTION, CLOSED, NO_REPLY, LEFT_OPEN = "no connection", "closed", "no reply", "left open"
_LONGEST_PAUSE_S = 3600


class Seen(NamedTuple):
    """One request or connection: the word, and seconds from its start to that."""

    word: str
    taken_s: float


def turned_away(word: str) -> bool:
    """Whether a word stands for overload that says when to come again."""
    return word.endswith(_AGAIN)


def in_words(word: str) -> bool:
    """Whether a word stands for an answer, or a refusal that says what is wrong or when to come again."""
    refused = word.isdigit() and 400 <= int(word) < 500
    return word == ANSWERED or turned_away(word) or refused or word in _REFUSALS_GRPC


def http_word(status: int, headers: Mapping[str, str]) -> str:
    """The word for an HTTP reply; names of headers in lower case."""
    if status == 200:
        return ANSWERED
    if status == _OVERLOAD_HTTP:
        return f"{status}{_AGAIN}" if _pause(headers.get("retry-after", "")) else f"{status} without Retry-After"
    return str(status)


def grpc_word(code: str, trailing: Iterable[tuple[str, str | bytes]]) -> str:
    """The word for a gRPC status that is not OK."""
    if code in _OVERLOAD_GRPC and any(name.lower() == "retry-after" and _pause(value) for name, value in trailing):
        return f"{code}{_AGAIN}"
    return code


def message_word(reply: bytes) -> str:
    """The word for a PredictionResponse: the handler's refusals come in its place."""
    start = reply.find(b'{"error": {', 0, 16)
    if start < 0:
        return ANSWERED
    try:
        return str(json.loads(reply[start:])["error"]["status"])
    except (ValueError, KeyError, TypeError):
        return "a broken error"


def _pause(value: str | bytes) -> bool:
    """Whether this is a number of seconds that somebody would wait."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return text.isascii() and text.isdigit() and int(text) <= _LONGEST_PAUSE_S
