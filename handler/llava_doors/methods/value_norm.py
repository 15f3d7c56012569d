"""Value norm: attention times the length of what is moved, so that a patch that is read but says little counts little.

m_j = the mean over the cells of a slot of a_rj * |v_j W_O^h|: the length of the vector that head h adds to the residual
stream for patch j (Kobayashi et al. 2020, "Attention is not only a weight", arXiv 2004.10102).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llava_doors.asked import AskedView, Reach, Shape
from llava_doors.door import Declaration
from llava_doors.method import Maps, Needs, RowBlock, RowMethod, Seen
from llava_doors.parts.slots import SlotMeans
from llava_wire.quantity import Quantity

if TYPE_CHECKING:
    import torch

DECLARATION = Declaration(
    name="value_norm",
    summary="How much each row read: attention times the length of what the head writes for the patch, averaged.",
    implementation="llava_doors.methods.value_norm:ValueNorm",
    quantity=Quantity("value-weighted attention", "length"),
    traits={"heads": True, "streams": True},
)
_FLOAT = 4


class ValueNorm(RowMethod):
    """Attention rows of the view's heads, each patch weighed by the length of its values after the projection."""

    def needs(self, view: AskedView, facts: Shape) -> Needs:
        """See `Method`."""
        return Needs(values=True)

    def extra_bytes(self, view: AskedView, facts: Shape, reach: Reach) -> int:
        """See `Method`: the lengths of all layers; of one layer its projection, values, products and weighed rows."""
        lengths = facts.layers * facts.heads * reach.patches
        projection = facts.heads * facts.head_dim * (facts.width + facts.head_dim)
        products = 2 * facts.heads * reach.patches * facts.head_dim
        return _FLOAT * (lengths + projection + products + facts.heads * reach.rows * reach.patches)

    def fold(self, seen: Seen, view: AskedView) -> ValueNormFold:
        """See `RowMethod`."""
        return ValueNormFold(seen, view)


class ValueNormFold:
    """Accumulates one view of one request.

    Args:
        seen: the run, with its values.
        view: which layers and heads, and what each map averages.
    """

    def __init__(self, seen: Seen, view: AskedView) -> None:
        self._seen = seen
        self._means = SlotMeans(view, len(seen.layout.positions), (seen.layout.patches,), seen.device)

    def add(self, block: RowBlock) -> None:
        """See `llava_doors.method.Fold`."""
        if not self._means.reads(block.layer, block.heads):
            return
        lengths = value_lengths(self._seen, block.layer)[list(block.heads)].to(block.weights.device)
        self._means.add(block.layer, block.heads, block.rows, block.image * lengths[:, None])

    def finish(self) -> Maps:
        """See `llava_doors.method.Fold`."""
        [values] = self._means.finish()
        return Maps(values)


def value_lengths(seen: Seen, layer: int) -> torch.Tensor:
    """[head, patch] float32: the length of each patch's values after the output projection of each head.

    Made once for all views of a request, by the Gram matrix of each head's part of the projection: the projected values
    themselves, as wide as a hidden state for every head and patch, are never made.
    """

    def make() -> torch.Tensor:
        values = seen.values(layer)[:, seen.layout.image].float()  # [kv head, patch, head_dim]
        weight = seen.output_weight(layer).to(values.device)  # [head, head_dim, width]
        gram = weight @ weight.transpose(1, 2)  # [head, head_dim, head_dim]
        values = values.repeat_interleave(len(gram) // len(values), 0)  # [head, patch, head_dim]
        return ((values @ gram) * values).sum(-1).clamp(min=0).sqrt()

    return seen.once(f"lengths of values, layer {layer}", make)
