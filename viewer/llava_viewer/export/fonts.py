"""Fonts for pictures with text: a chain of files, the first that has all the letters of a line draws it.

Flow: text -> `font_for` -> Pillow font; `width` measures, `wrap` and `cut` fit text into a width. The chain is: the
caller's files, Source Sans 3 (a package that pip installs), DejaVu Sans where the machine has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from PIL import ImageFont

from llava_viewer.look.text import visible

_OTHER_SCRIPTS = "DejaVuSans.ttf"
_MEASURE = 100.0
"""Widths are measured once at this size: they grow evenly with it."""
_NOWHERE = "\uffff"
_LONGEST_CHARS = 4000
"""No sheet has room for more in one place; measuring a stranger's text to its end could take minutes."""


def font_for(text: str, size_px: float, weight: int, fonts: tuple[str, ...]) -> tuple[ImageFont.FreeTypeFont, str]:
    """The font that draws a line, and the line with what no font has written as U+XXXX and line breaks as spaces.

    Args:
        size_px: the height of the letters in px.
        weight: 200..900, where the font can vary.
        fonts: font files that go first.
    """
    text = " ".join(text.splitlines())  # Raqm lays out no text of several paragraphs
    chain = _chain(fonts)
    missing = {name: _missing(name, text) for name in chain}
    best = min(chain, key=lambda name: len(missing[name]))
    drawn = "".join(f"<U+{ord(c):04X}>" if c in missing[best] else c for c in text)
    return _font(best, round(size_px, 2), weight), drawn


def width(text: str, size: float, weight: int = 400, fonts: tuple[str, ...] = ()) -> float:
    """How wide a line is, in the unit of `size`."""
    font, drawn = font_for(text, _MEASURE, weight, fonts)
    return font.getlength(drawn) * size / _MEASURE


def wrap(text: str, size: float, room: float, most: int, fonts: tuple[str, ...] = ()) -> list[str]:
    """Text as at most `most` lines no wider than `room`; what does not fit ends in dots."""
    lines: list[str] = []
    words = visible(" ".join(_start(text).split())).split(" ")
    line = ""
    for number, word in enumerate(words):
        longer = f"{line} {word}" if line else word
        if width(longer, size, fonts=fonts) <= room:
            line = longer
            continue
        if len(lines) + 1 == most:
            return [*lines, cut(" ".join([*([line] if line else []), *words[number:]]), size, room, fonts=fonts)]
        if line:
            lines.append(line)
        line = cut(word, size, room, fonts=fonts)
    return [*lines, line]


def cut(text: str, size: float, room: float, weight: int = 400, fonts: tuple[str, ...] = ()) -> str:
    """One line no wider than `room`, with dots where something was cut off."""
    text = visible(_start(text))
    if width(text, size, weight, fonts) <= room:
        return text
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if width(text[:middle] + "…", size, weight, fonts) <= room:
            fits = middle
        else:
            too_long = middle
    return text[:fits].rstrip() + "…"


def undrawable(texts: Sequence[str], fonts: tuple[str, ...] = ()) -> str:
    """The characters of some texts that no font of the chain draws, each once, in order."""
    found: dict[str, None] = {}
    for text in map(_start, texts):
        missing = sorted((_missing(name, text) for name in _chain(fonts)), key=len)
        found.update(dict.fromkeys(sorted(missing[0])))
    return "".join(found)


def _start(text: str) -> str:
    return text if len(text) <= _LONGEST_CHARS else f"{text[:_LONGEST_CHARS]}…"


def _chain(fonts: tuple[str, ...]) -> list[str]:
    return [name for name in (*fonts, _packaged(), _OTHER_SCRIPTS) if _usable(name)]


@cache
def _packaged() -> str:
    folder = files("fontpkg_source_sans_3").joinpath("files")
    return str(folder.joinpath("SourceSans3[wght].ttf"))


@cache
def _usable(name: str) -> bool:
    """Whether the file is there; the caller's own files must be, so they raise when they are drawn with."""
    if name != _OTHER_SCRIPTS:
        return True
    try:
        ImageFont.truetype(name, 10)
    except OSError:
        return False
    return True


@cache
def _font(name: str, size_px: float, weight: int) -> ImageFont.FreeTypeFont:
    try:
        font = ImageFont.truetype(name, size_px)
    except OSError as error:
        raise ValueError(f"font: got {name!r} ({error}), expected a TrueType or OpenType file") from error
    try:
        font.set_variation_by_axes([weight])
    except (OSError, NotImplementedError, ValueError):  # a font with fixed weights
        return font
    return font


@cache
def _has(name: str, character: str) -> bool:
    """Whether the font has a picture of its own for a character."""
    font = _font(name, _MEASURE, 400)
    return character.isspace() or bytes(font.getmask(character)) != bytes(font.getmask(_NOWHERE))


def _missing(name: str, text: str) -> frozenset[str]:
    return frozenset(character for character in text if not _has(name, character))
