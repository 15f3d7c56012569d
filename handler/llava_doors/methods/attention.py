"""Raw attention: where each row read from, as plain means over the heads of a view, with the split of the whole row.

Means are plain arithmetic means of attention rows, as in the older toolkit's reductions 3, 2, 1 and 'none'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llava_doors.asked import AskedView, Layout
from llava_doors.door import Declaration
from llava_doors.method import Maps, RowBlock, RowMethod, Seen, span
from llava_wire.quantity import ATTENTION

if TYPE_CHECKING:
    import torch

SHARES = 4
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
        return AttentionFold(view, seen.layout, seen.device)


class AttentionFold:
    """Accumulates one view of one request.

    Args:
        view: which layers and heads, and what each map averages.
        layout: where the patches lie and which rows are shown.
        device: where the maps are kept until they are finished.
    """

    def __init__(self, view: AskedView, layout: Layout, device: torch.device) -> None:
        import torch

        self._cells = view.cells
        self._slot_of = {cell: slot for slot, cells in enumerate(view.slots) for cell in cells}
        self._divisor = len(view.slots[0])
        patches = layout.patches
        # Image columns and shares side by side, [row, slot, N + 4], so that one division serves both.
        shape = (len(layout.positions), len(view.slots), patches + SHARES)
        self._sums = torch.zeros(shape, dtype=torch.float32, device=device)
        self._image, self._shares = self._sums[..., :patches], self._sums[..., patches:]

    def add(self, block: RowBlock) -> None:
        """See `llava_doors.method.Fold`."""
        wanted = [head for head in self._cells.get(block.layer, ()) if head in block.heads]
        if not wanted:
            return
        among = span([block.heads.index(head) for head in wanted])
        slots, rows = [self._slot_of[block.layer, head] for head in wanted], block.rows
        parts = ((self._image, block.image), (self._shares, block.once("shares", lambda: split(block))))
        if self._divisor == 1:
            for part, values in parts:
                part[rows, span(slots)] = values[among].transpose(0, 1).to(part.device)
            return
        for part, values in parts:
            part[rows, slots[0]] += values[among].sum(0).to(part.device)

    def finish(self) -> Maps:
        """See `llava_doors.method.Fold`."""
        if self._divisor > 1:
            self._sums /= self._divisor
        return Maps(self._image, self._shares)


def split(block: RowBlock) -> torch.Tensor:
    """[head, row, 4]: how each row splits over bos, image, prompt text, answer text; sums to 1."""
    import torch

    weights, layout = block.weights, block.layout
    first = 1 if layout.has_bos else 0
    bos = weights[..., :first].sum(-1)
    on_image = block.image.sum(-1)
    answer = weights[..., layout.prompt_length :].sum(-1)
    text, *rest = (weights[..., part].sum(-1) for part in layout.text)
    for part in rest:
        text = text + part
    return torch.stack([bos, on_image, text, answer], dim=-1)
