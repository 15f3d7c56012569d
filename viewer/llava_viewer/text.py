"""Text from models and users made safe to look at: token strings -> what is shown, in reading order.

Escaping is the template's business; here only what cannot be seen is made visible.
"""

from __future__ import annotations

import re
import unicodedata

_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f]")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def visible(value: str) -> str:
    """Text that may stand anywhere in a page: control characters and direction overrides become visible signs."""
    value = value.encode("utf-8", "replace").decode("utf-8")
    value = _CONTROL.sub(lambda m: chr(0x2400 + ord(m[0])) if ord(m[0]) < 0x20 else "\u2421", value)
    return _BIDI.sub(lambda m: f"⟨U+{ord(m[0]):04X}⟩", value)


def token_label(value: str) -> tuple[str, bool, bool]:
    """A token's text as (shown text, a space goes before it, a new line starts after it)."""
    spaced = value[:1].isspace()
    breaks = "\n" in value
    shown = " ".join(value.split())
    if not shown:
        shown = "↵" if breaks else ("␣" if value else "·")
    return shown, spaced, breaks


def piece_label(piece: str) -> str:
    """A vocabulary string as plain text: byte-level and sentence-piece spaces undone, as far as one can see."""
    if _BYTE.fullmatch(piece):
        return piece
    return piece.replace("▁", " ").replace("Ġ", " ").replace("Ċ", "\n")


def direction(value: str) -> str:
    """ "rtl" when the first letter with a direction runs right to left, else "ltr"."""
    for character in value:
        kind = unicodedata.bidirectional(character)
        if kind in ("R", "AL"):
            return "rtl"
        if kind == "L":
            return "ltr"
    return "ltr"
