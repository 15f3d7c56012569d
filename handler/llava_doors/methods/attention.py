"""Raw attention: where each row read from, as plain means over the heads of a view, with the split of the whole row.

Means are plain arithmetic means of attention rows, as in the older toolkit's reductions 3, 2, 1 and 'none'.
"""

from __future__ import annotations

from llava_doors.asked import AskedView
from llava_doors.door import Declaration
from llava_doors.method import RowMethod, Seen
from llava_doors.parts.row_means import AttentionFold
from llava_wire.quantity import ATTENTION

DECLARATION = Declaration(
    name="attention",
    summary="Where each row read from: softmax(q K^T) of the chosen layers and heads, averaged.",
    implementation="llava_doors.methods.attention:Attention",
    quantity=ATTENTION,
    traits={"heads": True, "streams": True},
)


class Attention(RowMethod):
    """Attention rows of the view's heads, averaged slot by slot."""

    def fold(self, seen: Seen, view: AskedView) -> AttentionFold:
        """See `RowMethod`."""
        return AttentionFold(seen, view)
