"""Means over the (layer, head) cells of each slot of a view, taken as rows come: what several methods fold into.

Flow: blocks [head, row, value] of one layer -> the cells of the view among them -> sums -> means [row, slot, value].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llava_doors.asked import AskedView
from llava_doors.method import span

if TYPE_CHECKING:
    import torch


class SlotMeans:
    """Plain arithmetic means over the cells of each slot.

    Args:
        view: which layers and heads, and what each map averages.
        rows: how many rows there are.
        widths: values of a row in each part, such as patches; the parts lie side by side, so that one division serves
            all.
        device: where the means are kept.
    """

    def __init__(self, view: AskedView, rows: int, widths: Sequence[int], device: torch.device) -> None:
        import torch

        self._cells = view.cells
        self._slot_of = {cell: slot for slot, cells in enumerate(view.slots) for cell in cells}
        self._divisor = len(view.slots[0])
        self._sums = torch.zeros((rows, len(view.slots), sum(widths)), dtype=torch.float32, device=device)
        self._parts = self._sums.split(list(widths), -1)

    def reads(self, layer: int, heads: Sequence[int]) -> bool:
        """Whether any of these heads is a cell of the view."""
        return any(head in heads for head in self._cells.get(layer, ()))

    def add(self, layer: int, heads: Sequence[int], rows: slice, *values: torch.Tensor) -> None:
        """Takes one block, which must hold a head that the view `reads`; its other heads are ignored.

        Args:
            layer: 0-based.
            heads: of the block, ascending.
            rows: which rows, as a slice of all.
            values: per part [head, row, value].
        """
        wanted = [head for head in self._cells[layer] if head in heads]
        among, slots = span([heads.index(head) for head in wanted]), [self._slot_of[layer, head] for head in wanted]
        for part, given in zip(self._parts, values, strict=True):
            if self._divisor == 1:
                part[rows, span(slots)] = given[among].transpose(0, 1).to(part.device)
            else:
                part[rows, slots[0]] += given[among].sum(0).to(part.device)

    def finish(self) -> tuple[torch.Tensor, ...]:
        """Per part [row, slot, value] float32."""
        if self._divisor > 1:
            self._sums /= self._divisor
        return self._parts
