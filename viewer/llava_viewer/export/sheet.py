"""A contact sheet: every token of the answer as a small picture, in reading order, with the answer on top.

Flow: `Shown` -> cells of a page-wide grid -> `Drawing`.
"""

from __future__ import annotations

import math

from llava_viewer.export.drawing import DIM, MM, Drawing, Mark, Photo, Text
from llava_viewer.export.figure import SMALL_PT, creed, fit, legend, stage_marks
from llava_viewer.export.fonts import cut, wrap
from llava_viewer.export.shown import Item, Shown
from llava_viewer.look import wording

CELL_MM = 32.0
GAP_PT = 8.0
_NAME_PT = 8.0
_THUMB_SIDE_PX = 480
MAX_CELLS, MANY_CELLS = 2000, 200
"""The most maps on a sheet, and the most without being asked for `many`."""


def contact_sheet(shown: Shown, items: tuple[Item, ...] | None = None, *, many: bool = True) -> Drawing:
    """All items of the answer (or those given) on one sheet that is as wide as the look says.

    Args:
        many: up to `MAX_CELLS` and not `MANY_CELLS`.

    Raises:
        ValueError: more items than that.
    """
    chosen, most = items or shown.ordinary(), MAX_CELLS if many else MANY_CELLS
    if len(chosen) > most:
        cure = "" if many else ", or add --many"
        raise ValueError(f"sheet: got {len(chosen)} maps, expected {most}; name fewer with --tokens{cure}")
    look, record = shown.look, shown.record
    room = look.width_mm * MM
    columns = max(1, min(len(chosen), int((room + GAP_PT) // (CELL_MM * MM + GAP_PT))))
    cell = (room - (columns - 1) * GAP_PT) / columns
    marks: list[Mark] = []
    top = 0.0
    for size, colour, text, most in (
        (9.0, DIM, record.facts.prompt.text, 3), (12.0, "#1b1e24", record.answer, 6),
    ):  # fmt: skip
        for line in wrap(text, size, room, most, look.fonts):
            top += size * 1.25
            marks.append(Text(0, top, line, size, colour=colour))
    top += 9
    picture = shown.backdrop(_THUMB_SIDE_PX)
    frame = fit(shown, 0, 0, cell, 1.4 * cell)
    tall = frame.size[1] + _NAME_PT + SMALL_PT + 8
    for number, item in enumerate(chosen):
        row, column = divmod(number, columns)
        left, upper = column * (cell + GAP_PT), top + row * (tall + GAP_PT)
        placed = fit(shown, left, upper, cell, 1.4 * cell)
        marks += stage_marks(shown, item, placed, picture, peak=False)
        below = upper + frame.size[1] + _NAME_PT + 1
        marks.append(Text(left, below, cut(item.text, _NAME_PT, cell, 600, look.fonts), _NAME_PT, 600))
        where = item.place.removeprefix("the ")
        facts = f"{wording.percent(item.image_share)} {where} · max {wording.percent(item.peak)}"
        if not item.unit.is_share:
            facts = f"largest {item.peak_text}"
        marks.append(Text(left, below + SMALL_PT + 2, cut(facts, SMALL_PT, cell, fonts=look.fonts), SMALL_PT,
                          colour=DIM))  # fmt: skip
    top += math.ceil(len(chosen) / columns) * (tall + GAP_PT)
    if look.scale == "shared":
        marks += legend(shown, chosen[0], 0, top, min(room, 60 * MM))
        top += 24
    scale = "one scale for all" if look.scale == "shared" else "each map on its own scale, up to its max"
    note = f"{record.facts.model.name}, {shown.selection}; {scale}. {creed(shown)}"
    for line in wrap(note, SMALL_PT, room, 4, look.fonts):
        top += SMALL_PT * 1.3
        marks.append(Text(0, top, line, SMALL_PT, colour=DIM))
    return Drawing(room, top + 3, tuple(one_photo(marks)), record.answer, note, look.fonts)


def one_photo(marks: list[Mark]) -> list[Mark]:
    """The same marks, with one picture object for all cells, so that a file holds it once."""
    photos = [mark for mark in marks if isinstance(mark, Photo)]
    first = photos[0].pixels if photos else None
    return [
        Photo(m.x, m.y, m.width, m.height, first) if isinstance(m, Photo) and first is not None else m for m in marks
    ]
