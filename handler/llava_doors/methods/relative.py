"""Relative attention: what a row read more than the same image's row for a generic prompt.

difference: m_j = a_rj - g_j; ratio: m_j = a_rj / (g_j + epsilon). g is the last row of the generic prompt, which
predicts the first word of its answer; both are means over the cells of a slot. The ratio is that of Zhang et al.,
"MLLMs know where to look" (ICLR 2025, arXiv 2502.17422); on scenes of known truth it points worse than attention, the
difference better.
"""

from __future__ import annotations

from llava_doors.asked import AskedView, Reach, Shape
from llava_doors.door import Declaration, Parameter, Variant
from llava_doors.method import Maps, Needs, RowMethod, Seen
from llava_doors.parts.row_means import SPLIT, AttentionFold, row_means
from llava_wire.quantity import Quantity

GENERIC = "Write a general description of the image."
_FLOAT = 4
DECLARATION = Declaration(
    name="relative",
    summary="What each row read from more than the same image is read for a generic prompt.",
    implementation="llava_doors.methods.relative:Relative",
    parameters=(
        Parameter("prompt", "text", GENERIC, "The generic prompt, asked in the request's template."),
        Parameter("form", "text", "difference", "How the two are compared.", ("difference", "ratio")),
        Parameter("epsilon", "number", 1e-3, "What the ratio adds to the generic prompt's attention.", (), 1e-6, 1.0),
    ),
    quantity=Quantity("attention above a generic prompt's", "share", signed=True, additive=True),
    variants=(Variant("form", "ratio", Quantity("attention relative to a generic prompt's", "ratio")),),
    traits={"heads": True, "streams": False},
)


class Relative(RowMethod):
    """Attention rows against the row of a generic prompt."""

    def needs(self, view: AskedView, facts: Shape) -> Needs:
        """See `Method`."""
        return Needs(questions=(view.parameters["prompt"],))

    def extra_bytes(self, view: AskedView, facts: Shape, reach: Reach) -> int:
        """See `Method`: one more row, and a copy of all."""
        return _FLOAT * (reach.rows + 1) * len(view.slots) * (reach.patches + SPLIT)

    def fold(self, seen: Seen, view: AskedView) -> RelativeFold:
        """See `RowMethod`."""
        return RelativeFold(seen, view)


class RelativeFold(AttentionFold):
    """Accumulates one view of one request; see `AttentionFold`."""

    def finish(self) -> Maps:
        """See `llava_doors.method.Fold`."""
        own, asked = super().finish().values, self._view.parameters
        generic = row_means(self._seen.other(asked["prompt"]), self._view).values  # [1, slot, patch]
        return Maps(own / (generic + asked["epsilon"]) if asked["form"] == "ratio" else own - generic)
