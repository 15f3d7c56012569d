"""Sink-free attention: raw attention without the patches that nearly every word of the answer reads.

Sinks are found by one rule (`llava_doors.parts.sinks`) on the mean over all cells of the view. They count as 0, what is
left of each row is divided by its sum (as Kang et al. 2025, arXiv 2503.03321, do for viewing), and a note lists them:
sinks may hold what is true of the image as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from llava_doors.asked import AskedView, Reach, Shape
from llava_doors.door import Declaration
from llava_doors.method import Maps, Needs, RowMethod, Seen
from llava_doors.parts.row_means import AttentionFold, ordinary_words, whole_answer_bytes
from llava_doors.parts.sinks import LEAST_ROWS, sink_patches
from llava_wire.quantity import Quantity
from llava_wire.schema import SHARE_NAMES

if TYPE_CHECKING:
    pass

_IMAGE = SHARE_NAMES.index("image")
_LEAST_LEFT = 1e-3
"""What must be left of a row for it to be divided by it."""
_IN_A_NOTE, _MOST_NOTES = 20, 3
"""Patches that one note lists, and notes that list them."""
DECLARATION = Declaration(
    name="sink_free",
    summary="Where each row read from, without the patches that nearly every word of the answer reads.",
    implementation="llava_doors.methods.sink_free:SinkFree",
    quantity=Quantity("attention without sinks", "share", additive=True),
    traits={"heads": True, "streams": False},
)


class SinkFree(RowMethod):
    """Attention rows without sinks."""

    def needs(self, view: AskedView, facts: Shape) -> Needs:
        """See `Method`."""
        return Needs(rows="answer")

    def extra_bytes(self, view: AskedView, facts: Shape, reach: Reach) -> int:
        """See `Method`: the answer's rows twice, one more copy without the sinks."""
        return 2 * whole_answer_bytes(view, reach.rows, reach.patches)

    def fold(self, seen: Seen, view: AskedView) -> SinkFreeFold:
        """See `RowMethod`."""
        return SinkFreeFold(seen, view)


class SinkFreeFold(AttentionFold):
    """Accumulates one view of one request; see `AttentionFold`."""

    def finish(self) -> Maps:
        """See `llava_doors.method.Fold`."""
        own = super().finish()
        rows = ordinary_words(self._seen, self._view, own.values).maps.mean(1).cpu()  # [word, patch]
        sinks = sink_patches(rows.numpy())
        if sinks is None:
            text = (
                f"no patch was left out: the rule for sinks needs {LEAST_ROWS} ordinary words, and the answer has "
                f"{len(rows)}. These maps are those of attention."
            )
            return replace(own, notes=(text,))
        places = sinks.nonzero()[0].tolist()
        if not places:
            text = f"no patch was left out: none draws {_rule(len(rows))}. These maps are those of attention."
            return replace(own, notes=(text,))
        drawn = float(rows[:, places].sum(1).mean())
        return _without(own, places, _listed(self._seen.grids, places, len(rows), drawn))


def _without(own: Maps, places: list[int], notes: tuple[str, ...]) -> Maps:
    """Maps and shares with some patches at 0, what is left divided by its sum."""
    assert own.shares is not None
    values, shares = own.values, own.shares
    drawn = values[..., places].sum(-1, keepdim=True)  # [row, slot, 1]
    bare = 1 - drawn < _LEAST_LEFT
    if int(bare.sum()):
        notes = (*notes, f"in {int(bare.sum())} maps nothing else was read: those are as attention has them.")
    drawn = drawn.masked_fill(bare, 0)
    kept, parts = values.clone(), shares.clone()
    kept[..., places] = kept[..., places].masked_fill(~bare, 0)
    parts[..., _IMAGE] = (parts[..., _IMAGE] - drawn[..., 0]).clamp(min=0)
    apart = None if own.separators is None else own.separators / (1 - drawn[..., 0])
    return Maps(kept / (1 - drawn), parts / (1 - drawn), notes=notes, separators=apart)


def _rule(rows: int) -> str:
    return f"at least twice the even spread in at least 90 % of the {rows} ordinary rows"


def _listed(grids: Sequence[tuple[int, int]], places: list[int], rows: int, drawn: float) -> tuple[str, ...]:
    """Notes with every patch that was left out, as row and column of its grid, as long as notes have room."""
    named = []
    for place in places:
        first = 0
        for number, (height, width) in enumerate(grids):
            if place < first + height * width:
                row, col = divmod(place - first, width)
                named.append(f"({row}, {col})" if len(grids) == 1 else f"{number}:({row}, {col})")
                break
            first += height * width
    where = "(row, column), from 0" if len(grids) == 1 else "grid:(row, column), from 0"
    plural = "es" * (len(places) > 1)
    said = (
        f"{len(places)} patch{plural} left out, with {_rule(rows)}. Together they drew {drawn:.3f} of these rows' "
        "attention; what is left of each row is divided by its sum, so image shares are of what is left."
    )
    notes = [said]
    for start in range(0, min(len(named), _IN_A_NOTE * _MOST_NOTES), _IN_A_NOTE):
        notes.append(f"left out {where}: {', '.join(named[start : start + _IN_A_NOTE])}")
    if (more := len(named) - _IN_A_NOTE * _MOST_NOTES) > 0:
        notes[-1] += f" and {more} more"
    return tuple(notes)
