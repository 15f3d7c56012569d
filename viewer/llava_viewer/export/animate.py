"""The answer unfolding: one picture per token, the words written so far under it, as GIF or APNG.

Flow: `Shown` -> one `Drawing` per item, all of one size -> frames -> file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image as PillowImage

from llava_viewer.export.drawing import DIM, INK, MM, Box, Drawing, Mark, Text
from llava_viewer.export.figure import SMALL_PT, fit, legend, stage_marks
from llava_viewer.export.fonts import cut, width, wrap
from llava_viewer.export.raster import paint
from llava_viewer.export.shown import Item, Shown
from llava_viewer.files import MARK, png_mark, written
from llava_viewer.look import wording
from llava_viewer.look.text import direction

FRAME_MS = 700
LAST_MS = 2500
MAX_PIXELS = 60_000_000
"""Pixels of all pictures together: about 45 MB of a GIF of a photograph."""
MAX_FRAME_PX = 1400
MAX_LINES = 8
"""Lines of text under the picture; longer answers scroll."""
MANY_FRAMES = 64
"""The most pictures that are drawn without being asked for `many`."""
_PALETTE_STEP = 4
_WORD_PT, _LEADING = 11.0, 17.0
_LATER = "#b9b6ae"
_PICK = "#fdf0b0"


@dataclass(frozen=True)
class _Piece:
    """One token's place in the text under the picture: x and width in points."""

    item: Item
    x: float
    line: int
    width: float


def write_animation(
    shown: Shown, path: Path, items: tuple[Item, ...] | None = None, *, frame_ms: int = FRAME_MS, many: bool = True
) -> None:
    """Writes a .gif or .png (APNG) that repeats for ever; the last word stays longer.

    Args:
        items: those that get a picture; all ordinary tokens of the answer when absent.
        many: more than `MANY_FRAMES`.

    Raises:
        ValueError: another kind of file, or more than `MAX_PIXELS` in all pictures.
    """
    kinds = {".gif": "GIF", ".png": "PNG", ".apng": "PNG"}
    if path.suffix.lower() not in kinds:
        raise ValueError(f"animation: got {path.name!r}, expected a name that ends in {', '.join(kinds)}")
    if not 20 <= frame_ms <= 60_000:
        raise ValueError(f"frame_ms: got {frame_ms}, expected 20 to 60000")
    count = len(shown.ordinary() if items is None else items)
    if count > MANY_FRAMES and not many:
        raise ValueError(f"animation: got {count} frames, expected {MANY_FRAMES}; name fewer --tokens, or add --many")
    pictures = frames(shown, items)
    durations = [frame_ms] * (len(pictures) - 1) + [max(LAST_MS, frame_ms)]
    kind = kinds[path.suffix.lower()]
    if kind == "GIF":
        pictures = [_few_colours(picture) for picture in pictures]
    with written(path, through_links=False) as partial:
        marked = {"comment": MARK} if kind == "GIF" else {"pnginfo": png_mark()}
        pictures[0].save(
            partial, kind, save_all=True, append_images=pictures[1:], duration=durations, loop=0, disposal=1, **marked
        )


def frames(shown: Shown, items: tuple[Item, ...] | None = None) -> list[PillowImage.Image]:
    """One RGB picture per item, all of one size."""
    words = shown.ordinary()
    chosen = words if items is None else items
    picture = shown.backdrop(MAX_FRAME_PX)
    pieces, lines = _flow(shown, words)
    made: list[PillowImage.Image] = []
    for item in chosen:
        place = next((i for i, piece in enumerate(pieces) if piece.item is item), len(pieces))
        made.append(paint(_frame(shown, item, place, picture, pieces, lines), shown.look.dpi))
        total = made[0].width * made[0].height * len(chosen)
        if total > MAX_PIXELS:
            raise ValueError(
                f"animation: got {len(chosen)} frames of {made[0].width} x {made[0].height} px, expected "
                f"{MAX_PIXELS:,} px in all; lower --dpi or --width-mm, or name fewer --tokens"
            )
    return made


def _frame(
    shown: Shown, item: Item, place: int, picture: PillowImage.Image, pieces: list[_Piece], lines: int
) -> Drawing:  # fmt: skip
    """The picture of one item; `place` is its piece, of which those before are written already."""
    room, margin, look = shown.look.width_mm * MM, 8.0, shown.look
    inner = room - 2 * margin
    marks: list[Mark] = []
    top = margin
    for line in wrap(shown.record.facts.prompt.text, 8.5, inner, 2, look.fonts):
        top += 10.5
        marks.append(Text(margin, top - 2, line, 8.5, colour=DIM))
    frame = fit(shown, margin, top + 3, inner, 1.2 * inner)
    marks += stage_marks(shown, item, frame, picture)
    top = frame.top + frame.size[1] + 6
    marks += legend(shown, item, margin, top, inner)
    top += 24
    now = pieces[place].line if place < len(pieces) else 0
    first = max(0, min(now - MAX_LINES + 2, lines - MAX_LINES))
    for number, piece in enumerate(pieces):
        if not first <= piece.line < first + MAX_LINES:
            continue
        y = top + _WORD_PT + (piece.line - first) * _LEADING
        if number == place:
            marks.append(Box(margin + piece.x - 1, y - 9.5, piece.width + 2, 13, fill=_PICK))
        colour = INK if number <= place else _LATER
        weight = 600 if number == place else 400
        text = _fitting(piece.item, inner, look.fonts)
        marks.append(Text(margin + piece.x, y, text, _WORD_PT, weight, colour))
    top += _WORD_PT + (min(lines, MAX_LINES) - 1) * _LEADING + 6
    facts = f"{wording.percent(item.image_share)} of the attention is on {item.place}"
    if not item.unit.is_share:
        facts = f"largest {item.peak_text}"
    marks.append(Text(margin, top + SMALL_PT, cut(facts, SMALL_PT, inner, fonts=look.fonts), SMALL_PT, colour=DIM))
    return Drawing(room, top + SMALL_PT + margin, tuple(marks), item.text, facts, look.fonts)


def _flow(shown: Shown, items: tuple[Item, ...]) -> tuple[list[_Piece], int]:
    """Places the tokens as running text, and how many lines it has; right-to-left answers start at the right."""
    inner, fonts = shown.look.width_mm * MM - 16, shown.look.fonts
    space = width("n", _WORD_PT, fonts=fonts) * 0.5
    pieces: list[_Piece] = []
    x, line = 0.0, 0
    for word in _words(items):
        wide = [max(width(_fitting(i, inner, fonts), _WORD_PT, w, fonts) for w in (400, 600)) for i in word]
        if x > 0 and word[0].row is not None and word[0].row.spaced:
            x += space
        if x + sum(wide) > inner and x > 0:
            x, line = 0.0, line + 1
        for item, piece in zip(word, wide, strict=True):
            if x + piece > inner and x > 0:
                x, line = 0.0, line + 1
            pieces.append(_Piece(item, x, line, piece))
            x += piece
        if word[-1].row is not None and word[-1].row.breaks:
            x, line = 0.0, line + 1
    if direction(shown.record.answer) == "rtl":
        pieces = [_Piece(piece.item, inner - piece.x - piece.width, piece.line, piece.width) for piece in pieces]
    return pieces, max((piece.line for piece in pieces), default=0) + 1


def _words(items: tuple[Item, ...]) -> list[list[Item]]:
    """The items by words: what no space or line break parts stays on one line."""
    words: list[list[Item]] = []
    for item in items:
        before = words[-1][-1].row if words else None
        if before is None or item.row is None or item.row.spaced or before.breaks:
            words.append([item])
        else:
            words[-1].append(item)
    return words


def _fitting(item: Item, inner: float, fonts: tuple[str, ...]) -> str:
    return cut(item.text, _WORD_PT, inner, 600, fonts)


def _few_colours(picture: PillowImage.Image) -> PillowImage.Image:
    """The frame in 256 colours of its own, spread so that the legend keeps its own; no dither on flat patches.

    Every fourth px of both directions is looked at: the search for colours takes most of a frame's time.
    """
    size = (max(1, picture.width // _PALETTE_STEP), max(1, picture.height // _PALETTE_STEP))
    few = picture.resize(size, PillowImage.Resampling.NEAREST)
    colours = few.quantize(256, method=PillowImage.Quantize.MAXCOVERAGE, dither=PillowImage.Dither.NONE)
    return picture.quantize(palette=colours, dither=PillowImage.Dither.NONE)
