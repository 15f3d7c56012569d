"""The answer unfolding: one picture per token, the words written so far under it, as GIF or APNG.

Flow: `Shown` -> one `Drawing` per item, all of one size -> frames -> file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as PillowImage

from llava_viewer import wording
from llava_viewer.export.drawing import DIM, INK, MM, Box, Drawing, Mark, Text
from llava_viewer.export.figure import SMALL_PT, fit, ground, legend, stage_marks
from llava_viewer.export.fonts import cut, width, wrap
from llava_viewer.export.raster import paint
from llava_viewer.export.shown import Item, Shown
from llava_viewer.photo import shrink
from llava_viewer.text import direction

FRAME_MS = 700
LAST_MS = 2500
MAX_FRAMES = 600
MAX_FRAME_PX = 1400
_WORD_PT, _LEADING = 11.0, 17.0
_LATER = "#b9b6ae"
_PICK = "#fdf0b0"


@dataclass(frozen=True)
class _Piece:
    """One token's place in the text under the picture, in points; y is the baseline."""

    item: Item
    x: float
    y: float
    width: float


def write_animation(shown: Shown, path: Path, *, frame_ms: int = FRAME_MS) -> None:
    """Writes a .gif or .png (APNG) that repeats for ever; the last word stays longer.

    Raises:
        ValueError: another kind of file, more than `MAX_FRAMES` tokens, or frames that are too large.
    """
    kinds = {".gif": "GIF", ".png": "PNG", ".apng": "PNG"}
    if path.suffix.lower() not in kinds:
        raise ValueError(f"animation: got {path.name!r}, allowed a name that ends in {', '.join(kinds)}")
    if not 20 <= frame_ms <= 60_000:
        raise ValueError(f"frame_ms: got {frame_ms}, allowed 20 to 60000")
    pictures = frames(shown)
    durations = [frame_ms] * (len(pictures) - 1) + [max(LAST_MS, frame_ms)]
    kind = kinds[path.suffix.lower()]
    if kind == "GIF":
        pictures = [_few_colours(picture) for picture in pictures]
    partial = path.with_name(f"{path.name}.partial")
    pictures[0].save(
        partial, kind, save_all=True, append_images=pictures[1:], duration=durations, loop=0, disposal=1
    )  # fmt: skip
    os.replace(partial, path)


def frames(shown: Shown) -> list[PillowImage.Image]:
    """One RGB picture per ordinary token of the answer."""
    items = shown.ordinary()
    if len(items) > MAX_FRAMES:
        raise ValueError(f"animation: got {len(items)} tokens, allowed {MAX_FRAMES}; ask for fewer steps")
    if shown.look.width_mm * shown.look.dpi / 25.4 > MAX_FRAME_PX:
        raise ValueError(
            f"animation: got {shown.look.width_mm:g} mm at {shown.look.dpi} dpi, allowed frames of {MAX_FRAME_PX} px; "
            "lower --dpi or --width-mm"
        )
    picture = shrink(ground(shown.record), MAX_FRAME_PX)
    pieces, text_height = _flow(shown, items)
    return [paint(_frame(shown, number, picture, pieces, text_height), shown.look.dpi) for number in range(len(items))]


def _frame(
    shown: Shown, number: int, picture: PillowImage.Image, pieces: list[_Piece], text_height: float
) -> Drawing:  # fmt: skip
    room, margin, look = shown.look.width_mm * MM, 8.0, shown.look
    inner = room - 2 * margin
    item = pieces[number].item
    marks: list[Mark] = []
    top = margin
    for line in wrap(shown.record.facts.prompt.text, 8.5, inner, 2, look.fonts):
        top += 10.5
        marks.append(Text(margin, top - 2, line, 8.5, colour=DIM))
    frame = fit(shown.record.geometry, margin, top + 3, inner, 1.2 * inner)
    marks += stage_marks(shown, item, frame, picture)
    top = frame.top + frame.size[1] + 6
    marks += legend(shown, item, margin, top, inner)
    facts = f"{wording.percent(item.image_share)} of this token’s attention is on the image"
    top += 24
    for place, piece in enumerate(pieces):
        if place == number:
            marks.append(Box(margin + piece.x - 1, top + piece.y - 9.5, piece.width + 2, 13, fill=_PICK))
        colour = INK if place <= number else _LATER
        weight = 600 if place == number else 400
        marks.append(Text(margin + piece.x, top + piece.y, piece.item.text, _WORD_PT, weight, colour))
    top += text_height + 4
    marks.append(Text(margin, top + SMALL_PT, cut(facts, SMALL_PT, inner, fonts=look.fonts), SMALL_PT, colour=DIM))
    return Drawing(room, top + SMALL_PT + margin, tuple(marks), item.text, facts, look.fonts)


def _flow(shown: Shown, items: tuple[Item, ...]) -> tuple[list[_Piece], float]:
    """Places the tokens as running text, and the height of it; right-to-left answers start at the right."""
    inner, fonts = shown.look.width_mm * MM - 16, shown.look.fonts
    space = width("n", _WORD_PT, fonts=fonts) * 0.5
    pieces: list[_Piece] = []
    x, y = 0.0, _WORD_PT
    for item in items:
        text = cut(item.text, _WORD_PT, inner, 600, fonts)
        wide = max(width(text, _WORD_PT, weight, fonts) for weight in (400, 600))
        x += space if pieces and (item.row is None or item.row.spaced) else 0.0
        if x + wide > inner and x > 0:
            x, y = 0.0, y + _LEADING
        pieces.append(_Piece(item, x, y, wide))
        x += wide
        if item.row is not None and item.row.breaks:
            x, y = 0.0, y + _LEADING
    if direction(shown.record.answer) == "rtl":
        pieces = [_Piece(piece.item, inner - piece.x - piece.width, piece.y, piece.width) for piece in pieces]
    return pieces, y


def _few_colours(picture: PillowImage.Image) -> PillowImage.Image:
    """The frame in 256 colours of its own; no dither, which would put noise on flat patches."""
    return picture.quantize(256, method=PillowImage.Quantize.MEDIANCUT, dither=PillowImage.Dither.NONE)
