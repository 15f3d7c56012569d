"""Text from models and users made safe to look at: token strings -> what is shown, in reading order.

Escaping is the template's business; here only what cannot be seen is made visible.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_FORMATS = (
    "\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
)
"""Format characters (category Cf), but for those that have a shape of their own."""
_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff"
"""What shows nothing though it is no format character: joiners of graphemes, fillers, selectors of a glyph's form."""
UNSEEN = _FORMATS + _BLANK
"""The ranges of a character class: what shows nothing by itself."""
_UNSEEN = re.compile(f"[{UNSEEN}]")
_SUSPECT = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{UNSEEN}]")
_SELECTOR = re.compile("[\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0020-\U000e007f\U000e0100-\U000e01ef]")
_JOINER = "\u200c\u200d"
_LONG_CHARS = 4096


def visible(value: str) -> str:
    """Text that may stand anywhere in a page: what has no shape of its own becomes a sign that names it.

    Control characters, direction overrides, zero-width spaces and their kind. A joiner between two characters and a
    selector after one do what they are for (emoji, Persian, Mongolian), and stay.
    """
    return _visible(value) if len(value) < _LONG_CHARS else _visible_once(value)


@lru_cache(maxsize=16)
def _visible_once(value: str) -> str:
    """A long text, which a page shows in several places."""
    return _visible(value)


def _visible(value: str) -> str:
    value = value.encode("utf-8", "replace").decode("utf-8")
    hidden = hidden_in(value)
    if not hidden:
        return value
    return "".join(_sign(char) if at in hidden else char for at, char in enumerate(value))


def hidden_in(value: str) -> frozenset[int]:
    """Where a text holds characters that nobody would see."""
    if value.isascii() and value.isprintable():  # nearly every text
        return frozenset()
    found: set[int] = set()
    for match in _SUSPECT.finditer(value):
        at = match.start()
        if _CONTROL.match(match[0]) or not _acts(value, at, found):
            found.add(at)
    return frozenset(found)


def _unseen(char: str) -> bool:
    return _UNSEEN.match(char) is not None


def _acts(value: str, at: int, found: set[int]) -> bool:
    """Whether a joiner or selector has what it needs: a character before it, and for a joiner one after it."""
    before = value[at - 1 : at]
    if not before or before.isspace() or at - 1 in found or before in _JOINER:
        return False
    if value[at] in _JOINER:
        after = value[at + 1 : at + 2]
        return bool(after) and not after.isspace() and not _unseen(after)
    return bool(_SELECTOR.match(value[at])) and (not _unseen(before) or bool(_SELECTOR.match(before)))


def _sign(char: str) -> str:
    if ord(char) < 0x20:
        return chr(0x2400 + ord(char))
    return "\u2421" if char == "\x7f" else f"⟨U+{ord(char):04X}⟩"


def token_label(value: str) -> tuple[str, bool, bool]:
    """A token's text as (shown text, never empty and always to be seen, a space goes before it, a new line starts
    after it)."""
    spaced = value[:1].isspace()
    breaks = "\n" in value
    shown = visible(" ".join(value.split()))
    if not shown:
        shown = "↵" if breaks else ("␣" if value else "·")
    return shown, spaced, breaks


def direction(value: str) -> str:
    """ "rtl" when the first letter with a direction runs right to left, else "ltr"."""
    for character in value:
        kind = unicodedata.bidirectional(character)
        if kind in ("R", "AL"):
            return "rtl"
        if kind == "L":
            return "ltr"
    return "ltr"
