"""What the terminal gets to see: progress on stderr, and strangers' text without control characters."""

from __future__ import annotations

import sys


class UsageError(ValueError):
    """Arguments that are fine one by one and do not go together."""


def say(line: str) -> None:
    """One line of progress on stderr."""
    print(line, file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """The text with control characters escaped (all but line break and tab): an answer must not steer a terminal."""
    return "".join(
        char if char in "\n\t" or char.isprintable() or (char.isspace() and ord(char) > 0x9F) else _escaped(char)
        for char in text
    )


def one_line(text: str) -> str:
    """The text as one printable line."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def size(count_bytes: int) -> str:
    """A size for people: 512 bytes, 12.3 kB, 4.5 MB."""
    if count_bytes < 1000:
        return f"{count_bytes} bytes"
    return f"{count_bytes / 1000:.1f} kB" if count_bytes < 1_000_000 else f"{count_bytes / 1_000_000:.1f} MB"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
