"""Words by heads: a row for each word of the answer, a column for each head, every map small and beside the others.

Flow: a view that keeps layers or heads apart -> its columns -> `Shown` for each -> cells of one grid -> `Drawing`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from llava_viewer.export.drawing import DIM, MM, Drawing, Mark, Text
from llava_viewer.export.figure import SMALL_PT, creed, fit, legend, stage_marks
from llava_viewer.export.fonts import cut, wrap
from llava_viewer.export.sheet import MANY_CELLS, MAX_CELLS, one_photo
from llava_viewer.export.shown import Item, Look, Shown, show
from llava_viewer.look import wording
from llava_wire.choose import chosen_slots, kept_cells
from llava_wire.record import Record

_GAP_PT, _NAME_PT, _THUMB_SIDE_PX = 4.0, 7.0, 360
_LEAST_MM, _WORDS_PART = 6.0, 0.14
Choose = Callable[[Shown], tuple[Item, ...]]
"""Which items of a column are the rows; every column is asked alike."""


def word_heads(
    record: Record, *, view: str | None = None, layer: int | None = None, head: int | None = None,
    look: Look | None = None, choose: Choose | None = None, many: bool = True,
) -> Drawing:  # fmt: skip
    """Every word's map in every head of a view, as wide as the look says.

    Args:
        record: of one grid, or one that `on_one_grid` made.
        view: one that keeps layers or heads apart; layer, head: only the columns of this layer or head.
        choose: which items are the rows, the answer's ordinary tokens when absent.
        many: up to `MAX_CELLS` cells and not `MANY_CELLS`.

    Raises:
        ValueError: the view keeps neither layers nor heads apart, or there are more columns or cells than fit.
    """
    look = look or Look(width_mm=180)
    chosen = record.view(view)
    kept = kept_cells(chosen)
    if len(kept) < 2:
        raise ValueError(
            f"heads: got view {chosen.name!r} with one map a word, expected one that keeps layers or heads apart; name "
            "one with --view (a replay with --reduction none makes it; --layers and --heads say which)"
        )
    places = [kept[slot] for slot in chosen_slots(chosen, layer, head)]
    columns = [show(record, view=chosen.name, layer=one, head=two, look=look) for one, two in places]
    rows = [(choose or Shown.ordinary)(column) for column in columns]
    words = rows[0]
    room = look.width_mm * MM
    left = room * _WORDS_PART
    wide = (room - left - len(columns) * _GAP_PT) / len(columns)
    most = MAX_CELLS if many else MANY_CELLS
    if wide < _LEAST_MM * MM:
        needed_mm = len(columns) * (_LEAST_MM + _GAP_PT / MM) / (1 - _WORDS_PART) + 0.5
        fits = int((room - left) / (_LEAST_MM * MM + _GAP_PT))
        raise ValueError(
            f"heads: got {len(columns)} columns, expected at most {fits} in {look.width_mm:g} mm; name one --layer or "
            f"--head, or raise --width-mm to {math.ceil(needed_mm)}"
        )
    if len(words) * len(columns) > most:
        raise ValueError(
            f"heads: got {len(words) * len(columns)} maps, expected {most}; name fewer with --tokens"
            f"{'' if many else ', or add --many'}"
        )
    if look.scale == "shared":
        top = max(item.maximum for column in rows for item in column)
        rows = [tuple(replace(item, maximum=top) for item in column) for column in rows]
    return _drawn(columns, rows, [_name(*place) for place in places], left, wide)


def _drawn(
    columns: Sequence[Shown], rows: Sequence[tuple[Item, ...]], names: Sequence[str], left: float, wide: float
) -> Drawing:
    first = columns[0]
    look, record, room = first.look, first.record, first.look.width_mm * MM
    marks: list[Mark] = []
    top = 0.0
    for line in wrap(record.facts.prompt.text, 9.0, room, 3, look.fonts):
        top += 9.0 * 1.25
        marks.append(Text(0, top, line, 9.0, colour=DIM))
    top += _NAME_PT + 8
    at = [left + number * (wide + _GAP_PT) + _GAP_PT for number in range(len(columns))]
    for x, name in zip(at, names, strict=True):
        marks.append(Text(x, top, cut(name, _NAME_PT, wide, 600, look.fonts), _NAME_PT, 600))
    top += 4
    picture = first.backdrop(_THUMB_SIDE_PX)
    for number, item in enumerate(rows[0]):
        frame = fit(first, 0, 0, wide, 1.4 * wide)
        middle = top + frame.size[1] / 2 + _NAME_PT / 3
        marks.append(Text(0, middle, cut(item.text, _NAME_PT, left - 2, 600, look.fonts), _NAME_PT, 600))
        for x, column, items in zip(at, columns, rows, strict=True):
            own = items[number]
            marks += stage_marks(column, own, fit(column, x, top, wide, 1.4 * wide), picture, peak=False)
            facts = wording.percent(own.image_share) if own.unit.is_share else own.peak_text
            below = top + frame.size[1] + SMALL_PT
            marks.append(Text(x, below, cut(facts, SMALL_PT, wide, fonts=look.fonts), SMALL_PT, colour=DIM))
        top += frame.size[1] + SMALL_PT + _GAP_PT + 2
    if look.scale == "shared":
        marks += legend(first, rows[0][0], 0, top, min(room, 60 * MM))
        top += 24
    of = f"share of attention on {rows[0][0].place}" if rows[0][0].unit.is_share else "each map's largest value"
    scale = "one scale for all" if look.scale == "shared" else "each map on its own scale"
    view = first.selection.partition("; here ")[0]
    note = f"{record.facts.model.name}, {view}; {scale}; under each map {of}. {creed(first)}"
    for line in wrap(note, SMALL_PT, room, 4, look.fonts):
        top += SMALL_PT * 1.3
        marks.append(Text(0, top, line, SMALL_PT, colour=DIM))
    return Drawing(room, top + 3, tuple(one_photo(marks)), f"{record.answer}: words by heads", note, look.fonts)


def _name(layer: int | None, head: int | None) -> str:
    return " ".join(f"{kind}{number}" for kind, number in (("L", layer), ("H", head)) if number is not None)
