"""What the terminal gets to see: progress on stderr, and strangers' text without control characters."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import unicodedata
from pathlib import Path

from llava_viewer.look import wording
from llava_viewer.look.text import UNSEEN, hidden_in
from llava_viewer.runs.told import duration

_JSON_ESCAPED = re.compile(
    f"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff{UNSEEN}]|\r(?!\n)"
)
"""What JSON leaves as it is and a terminal does not show; line breaks and tabs between values are JSON's own."""

_EVERY_S = 10.0


class UsageError(ValueError):
    """Arguments that are fine one by one and do not go together."""


class NamedFileError(Exception):
    """A file within an argument that cannot be used: no `ValueError`, of which argparse would print the usage."""


def say(line: str) -> None:
    """One line of progress on stderr."""
    print(line, file=sys.stderr, flush=True)


class Told:
    """Tells now and then how far something is, and how long it will take yet.

    Args:
        what: "part", of which there are some.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._began_s = self._told_s = time.monotonic()

    def __call__(self, done: int, all: int) -> None:
        """So many are done, of so many."""
        now = time.monotonic()
        if now - self._told_s >= _EVERY_S:
            self._told_s = now
            left_s = (now - self._began_s) / max(done, 1) * (all - done)
            say(f"{self._what} {done:,} of {all:,}, {duration(left_s)} left")


def counted(number: int, noun: str) -> str:
    """ "1 file", "12 files"; with an ordinary space, unlike pages, for whoever searches the lines."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def count_of(text: str) -> int:
    """An argument that is a whole number above 0; of argparse."""
    if not re.fullmatch(r"[1-9]\d{0,8}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"got {text!r:.80}, expected a whole number above 0")
    return int(text)


def print_path(path: Path) -> None:
    """The path of a file on stdout: as it is for programs, and for a terminal without what could steer it."""
    print(one_line(str(path)) if sys.stdout.isatty() else path)


def json_text(value: object) -> str:
    """A value as indented JSON; inside its texts, what nobody would see is escaped, as JSON escapes it."""
    return json_escaped(json.dumps(value, ensure_ascii=False, indent=2))


def json_escaped(text: str) -> str:
    """JSON as it came, but for the same escapes."""
    return _JSON_ESCAPED.sub(lambda match: json.dumps(match[0])[1:-1], text)


def printable(text: str) -> str:
    """The text with what nobody would see escaped (all but line break and tab): an answer must not steer a terminal."""
    hidden = hidden_in(text)
    return "".join(
        _escaped(char) if char not in "\n\t" and (at in hidden or not _drawn(char)) else char
        for at, char in enumerate(text)
    )


def quoted(text: str) -> str:
    """The text in quotes as Python writes it, with what nobody would see escaped too."""
    hidden, mark = hidden_in(text), '"' if "'" in text else "'"
    inner = (
        _escaped(char) if at in hidden else char if unicodedata.category(char) == "Cf" else repr(char)[1:-1]
        for at, char in enumerate(text)
    )
    return f"{mark}{''.join(inner)}{mark}"


def _drawn(char: str) -> bool:
    """Whether a terminal has something to draw for it; of formats only those come here that do their work."""
    if char in "\u2028\u2029":  # some take them for line breaks
        return False
    return char.isprintable() or (char.isspace() and ord(char) > 0x9F) or unicodedata.category(char) == "Cf"


def one_line(text: str) -> str:
    """The text as one printable line."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def size(count_bytes: int) -> str:
    """A size for people, with plain spaces: 512 bytes, 12 kB, 4.5 MB."""
    return wording.size(count_bytes).replace(wording.NBSP, " ")


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
