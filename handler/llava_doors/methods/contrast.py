"""Contrast: what a row read more than the answer's rows do on average, so that what all rows read alike is gone.

m_j = a_rj - the mean over the answer's ordinary words t of a_tj, both means over the cells of a slot. Own formulation.
"""

from __future__ import annotations

from collections import Counter

from llava_doors.asked import AskedView, Reach, Shape
from llava_doors.door import Declaration
from llava_doors.method import Maps, Needs, RowMethod, Seen
from llava_doors.parts.row_means import AttentionFold, Words, ordinary_words, whole_answer_bytes
from llava_wire.quantity import Quantity

LEAST_WORDS, LEAST_LETTERS, NAMED = 3, 3, 8
"""Ordinary words below which there is no mean to speak of; letters of a word, and words, that a note names."""
DECLARATION = Declaration(
    name="contrast",
    summary="What each row read from more, or less, than the answer's words do on average.",
    implementation="llava_doors.methods.contrast:Contrast",
    quantity=Quantity("attention above the answer's mean", "share", signed=True, additive=True),
    traits={"heads": True, "streams": False, "averages": False},
)


class Contrast(RowMethod):
    """Attention rows less the mean row of the finished answer."""

    def needs(self, view: AskedView, facts: Shape) -> Needs:
        """See `Method`."""
        return Needs(rows="answer")

    def extra_bytes(self, view: AskedView, facts: Shape, reach: Reach) -> int:
        """See `Method`."""
        return whole_answer_bytes(view, reach.rows, reach.patches)

    def fold(self, seen: Seen, view: AskedView) -> ContrastFold:
        """See `RowMethod`."""
        return ContrastFold(seen, view)


class ContrastFold(AttentionFold):
    """Accumulates one view of one request; see `AttentionFold`."""

    def finish(self) -> Maps:
        """See `llava_doors.method.Fold`."""
        own = super().finish().values
        words = ordinary_words(self._seen, self._view, own)
        if len(words.ids) < LEAST_WORDS:
            return Maps(own * 0, notes=(_too_few(len(words.ids)),))
        return Maps(own - words.maps.mean(0), notes=_repeated(self._seen, words))


def _too_few(count: int) -> str:
    return (
        f"the answer has {count} ordinary word{'s' * (count != 1)}, and contrast is defined from {LEAST_WORDS} on; its "
        "maps are 0 throughout and say nothing. Look at attention instead."
    )


def _repeated(seen: Seen, words: Words) -> tuple[str, ...]:
    """A note where the answer may name a thing again: the mean that is taken away then holds that thing's patches."""
    counts = Counter(words.ids.tolist())
    pieces = [seen.tokenizer.decode([token]).strip() for token, count in counts.items() if count > 1]
    again = [piece for piece in pieces if piece.isalpha() and len(piece) >= LEAST_LETTERS]
    if not again:
        return ()
    named = ", ".join(f"“{piece:.20}”" for piece in again[:NAMED])
    more = f" and {len(again) - NAMED} more" if len(again) > NAMED else ""
    text = (
        f"the answer has {named}{more} more than once. Where a thing is named again, its patches are part of the mean "
        "that is taken away, and its maps are weaker than they should be."
    )
    return (text,)
