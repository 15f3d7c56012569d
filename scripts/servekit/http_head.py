"""The head of an HTTP request at the gate: what is let in is taken apart, and what goes on is made anew from the parts.

Flow: bytes up to the empty line -> `parse_head` -> `Head` -> `Head.forwarded`, the bytes that TorchServe gets.
TorchServe's reader is lenient (a lone LF ends its lines, a TAB parts its words), so this one is strict: two readers
that see different requests in the same bytes would let a second one in behind the first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NAME_HEADER = "x-llava-gaze-key"
"""The name of a request's key, for the worker's log."""
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINE = re.compile(rf"({_TOKEN}) (/[\x21-\x7e]*) (HTTP/1\.[01])")
# No control characters, TAB included.
_HEADER = re.compile(rf"({_TOKEN}):([\x20-\x7e\x80-\xff]*)")
_SIZE = re.compile(r"content-length:[0-9]{1,15}|transfer-encoding:chunked")
_SIZE_HEADERS = ("content-length", "transfer-encoding")
_NOT_FORWARDED = {
    "authorization", "connection", "keep-alive", "proxy-connection", "upgrade", "http2-settings", NAME_HEADER,
}  # fmt: skip


@dataclass(frozen=True)
class Head:
    """The first line and the headers of a request."""

    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]

    def value(self, name: str) -> str | None:
        """A header's value; None when it is missing or there twice."""
        values = [value for key, value in self.headers if key.lower() == name]
        return values[0] if len(values) == 1 else None

    @property
    def body_bytes(self) -> int | None:
        """The size of the body; None for one in chunks."""
        if self.value("transfer-encoding") is not None:
            return None
        return int(self.value("content-length") or 0)

    @property
    def is_ping(self) -> bool:
        """Whether this is a health check, which needs no key."""
        return self.method in ("GET", "HEAD") and self.target.partition("?")[0] == "/ping"

    def forwarded(self, key: str, name: str | None) -> bytes:
        """The head as TorchServe gets it: with its own key, the name of the client's, and the end after one answer.

        Of a health check, which a stranger may send, nothing of the client's is left.
        """
        line, kept = f"{self.method} {self.target} {self.version}", []
        if self.is_ping:
            line, name = "GET /ping HTTP/1.1", None
            kept = [("Host", "gate")]
        else:
            kept = [(key, value) for key, value in self.headers if key.lower() not in _NOT_FORWARDED]
        kept += [("Authorization", f"Bearer {key}"), ("Connection", "close")]
        kept += [(NAME_HEADER, name)] if name else []
        lines = [line, *(f"{key}: {value}" for key, value in kept)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def parse_head(head: bytes) -> Head:
    """The head of an HTTP/1 request, given with its empty line; ValueError for anything else."""
    first, *rest = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    line = _LINE.fullmatch(first)
    matches = [_HEADER.fullmatch(text) for text in rest]
    if line is None or None in matches:
        raise ValueError
    headers = tuple((match[1], match[2].strip(" ")) for match in matches if match)
    sizes = [f"{name}:{value}".lower() for name, value in headers if name.lower() in _SIZE_HEADERS]
    # Of two sizes nobody could say where the request ends.
    if len(sizes) > 1 or not all(_SIZE.fullmatch(size) for size in sizes):
        raise ValueError
    parsed = Head(line[1], line[2], line[3], headers)
    # HTTP/1.0 knows no chunks, and a health check no body.
    if parsed.body_bytes is None and (parsed.version == "HTTP/1.0" or parsed.is_ping):
        raise ValueError
    if parsed.is_ping and parsed.body_bytes:
        raise ValueError
    return parsed
