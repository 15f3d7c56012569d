"""Multipart forms taken apart in the one way in which browsers, curl and libraries write them.

Flow: content type and body -> `parts` -> per part its headers and where its content lies. Whatever two readers could
take apart in two ways is refused. Used by the front, which counts, and by the worker, which reads.
Source: RFC 7578, RFC 2046 section 5.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message

MAX_PARTS = 64
MAX_HEAD_BYTES = 4096
_BOUNDARY = re.compile(r'boundary=(?:"([0-9A-Za-z\'()+_,./:=? -]{1,70})"|([0-9A-Za-z\'+_./-]{1,70}))\s*(?:;|$)', re.I)
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00\r\n]*)")
_PLAIN = ("", "7bit", "8bit", "binary")


class FormError(ValueError):
    """A form that is not taken apart; the text says what it has, behind "got a form with"."""


class TooManyParts(FormError):
    """A form of more than `MAX_PARTS` parts."""


@dataclass(frozen=True)
class Part:
    """One part of a form.

    Args:
        name: the field's name.
        start, end: where its content lies in the body.
    """

    name: str
    start: int
    end: int


def is_multipart(content_type: str) -> bool:
    """Whether a content type is that of a multipart form."""
    return content_type.strip().lower().startswith("multipart/")


def parts(content_type: str, body: bytes) -> Iterator[Part]:
    """The parts of a form, in order.

    Raises:
        FormError: it has too many, or could be read in two ways.
    """
    boundaries = _BOUNDARY.findall(content_type)
    if len(boundaries) != 1 or content_type.lower().count("boundary") != 1:
        raise FormError("no boundary, or more than one")
    delimiter = b"--" + (boundaries[0][0] or boundaries[0][1]).encode("ascii")
    if not body.startswith(delimiter):
        raise FormError("something before its first boundary")
    if body.count(delimiter) > MAX_PARTS + 1:
        raise TooManyParts
    place = 0
    while True:
        start = place + len(delimiter)
        if body[start : start + 2] == b"--":
            return
        if body[start : start + 2] != b"\r\n":
            raise FormError("a boundary that is followed by something else")
        end = body.find(b"\r\n\r\n", start, start + MAX_HEAD_BYTES)
        if end < 0:
            raise FormError(f"a part whose head is longer than {MAX_HEAD_BYTES} bytes or has no end")
        name = _name(body[start + 2 : end])
        found = body.find(b"\r\n" + delimiter, end + 2)
        if found < 0:
            raise FormError("no boundary at its end")
        yield Part(name, min(end + 4, found), found)
        place = found + 2


def _name(head: bytes) -> str:
    """The field's name in a part's head."""
    headers = Message()
    for line in head.split(b"\r\n"):
        match = _HEADER.fullmatch(line)
        if match is None:
            raise FormError("a part with a line that is no header")
        headers[match[1].decode("ascii")] = match[2].strip().decode("utf-8", "replace")
    if len(headers.get_all("content-disposition", [])) != 1:
        raise FormError("a part without one Content-Disposition")
    name = headers.get_param("name", header="content-disposition")
    if not isinstance(name, str):
        raise FormError("a part without a plain name")
    if headers.get_content_maintype() == "multipart":
        raise FormError("a part of parts")
    if str(headers.get("content-transfer-encoding", "")).strip().lower() not in _PLAIN:
        raise FormError("a part that is encoded")
    return name
