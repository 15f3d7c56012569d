"""Attention to text: which words of prompt and answer a row read, in place of patches; so a copied word is found.

m_p = the mean over the cells of a view of a_rp, for every position p that is no patch.
"""

from __future__ import annotations

from llava_doors.asked import AskedView, Reach, Shape
from llava_doors.door import Declaration
from llava_doors.method import Maps, RowBlock, RowMethod, Seen
from llava_doors.parts.slots import SlotMeans
from llava_wire.quantity import Quantity

_FLOAT = 4
DECLARATION = Declaration(
    name="text_attention",
    summary="Which words of prompt and answer each row read: its columns are tokens, and it has no map.",
    implementation="llava_doors.methods.text_attention:TextAttention",
    quantity=Quantity("attention to text", "share", additive=True),
    traits={"heads": True, "streams": False, "columns": "text"},
)


class TextAttention(RowMethod):
    """Attention rows of the view's heads at the columns of text, averaged."""

    def extra_bytes(self, view: AskedView, facts: Shape, reach: Reach) -> int:
        """See `Method`: the columns of text of one layer."""
        return _FLOAT * facts.heads * reach.rows * (reach.length - reach.patches)

    def fold(self, seen: Seen, view: AskedView) -> TextFold:
        """See `RowMethod`."""
        return TextFold(seen, view)


class TextFold:
    """Accumulates one view of one request.

    Args:
        seen: the run.
        view: which layers and heads.
    """

    def __init__(self, seen: Seen, view: AskedView) -> None:
        self._columns = seen.layout.words
        self._means = SlotMeans(view, len(seen.layout.positions), (len(self._columns),), seen.device)

    def add(self, block: RowBlock) -> None:
        """See `llava_doors.method.Fold`."""
        if self._means.reads(block.layer, block.heads):
            text = block.weights[..., self._columns.to(block.weights.device)]
            self._means.add(block.layer, block.heads, block.rows, text)

    def finish(self) -> Maps:
        """See `llava_doors.method.Fold`."""
        [values] = self._means.finish()
        return Maps(values)
