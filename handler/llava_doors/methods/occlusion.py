"""Occlusion: how much of a word's log p goes when a window of patches is hidden.

Flow: windows over each grid -> log p of every row's word with a window's image tokens replaced by the mean, all rows in
one pass -> m_j = the mean, over the windows that cover patch j, of log p with all patches less log p without the window
(Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", arXiv 1311.2901).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llava_doors.asked import AskedView, Reach, Shape
from llava_doors.door import Declaration, Parameter
from llava_doors.method import Maps, Method, Needs, Seen
from llava_wire.errors import RequestError
from llava_wire.quantity import Quantity

if TYPE_CHECKING:
    import torch

_FLOAT, _SIDE_BY_SIDE = 4, 8
DECLARATION = Declaration(
    name="occlusion",
    summary="How much of a word's log p goes when windows of patches are hidden by the mean image token.",
    implementation="llava_doors.methods.occlusion:Occlusion",
    parameters=(
        Parameter("size", "integer", 2, "Rows and columns of a window, in patches.", above=0, up_to=64),
        Parameter("stride", "integer", 1, "Patches from one window to the next, at most its size.", above=0, up_to=64),
    ),
    quantity=Quantity("fall of log p", "nats", signed=True),
    traits={"heads": False},
)


class Occlusion(Method):
    """One pass for each window."""

    def needs(self, view: AskedView, facts: Shape) -> Needs:
        """See `Method`."""
        return Needs(rows="none", passes=_SIDE_BY_SIDE)

    def check(self, view: AskedView, tokenizer: Any) -> None:
        """See `Method`."""
        size, stride = view.parameters["size"], view.parameters["stride"]
        if stride > size:
            raise RequestError(
                "invalid",
                "parameters.stride",
                f"got {stride} with windows of {size}, expected up to {size}; patches between would have no map",
            )

    def passes(self, view: AskedView, facts: Shape, reach: Reach) -> int:
        """See `Method`: one for all patches, then one for each window."""
        counts = [len(starts(rows, view)) * len(starts(cols, view)) for rows, cols in reach.grids]
        return 1 + sum(counts)

    def extra_bytes(self, view: AskedView, facts: Shape, reach: Reach) -> int:
        """See `Method`: which of up to a window per patch hides which patch, as numbers too, and what that gives."""
        embeddings = 2 * _SIDE_BY_SIDE * reach.length * facts.width
        return _FLOAT * (3 * reach.patches * (reach.patches + reach.rows) + embeddings)

    def maps(self, seen: Seen, view: AskedView) -> Maps:
        """See `Method`."""
        import torch

        hidden = windows(seen.grids, view)  # [window, patch]
        nothing = torch.zeros_like(hidden[:1])
        found = seen.log_probs(~torch.cat([nothing, hidden]))  # [1 + window, row]
        covers = hidden.to(found)
        values = covers.T @ (found[0] - found[1:]) / covers.sum(0)[:, None]  # [patch, row]
        return Maps(values.T[:, None].to(seen.device).contiguous(), notes=_notes(seen.grids, view))


def starts(length: int, view: AskedView) -> list[int]:
    """Where windows begin along a side of a grid; the last one ends with it, so that no patch is left out."""
    last = max(length - view.parameters["size"], 0)
    return [*range(0, last, view.parameters["stride"]), last]


def windows(grids: Sequence[tuple[int, int]], view: AskedView) -> torch.Tensor:
    """[window, patch] bool, the patches that each window covers, one grid after another."""
    import torch

    size, parts = view.parameters["size"], []
    for rows, cols in grids:
        places = [(row, col) for row in starts(rows, view) for col in starts(cols, view)]
        part = torch.zeros((len(places), rows, cols), dtype=torch.bool)
        for number, (row, col) in enumerate(places):
            part[number, row : row + size, col : col + size] = True
        parts.append(part.flatten(1))
    return torch.block_diag(*parts).bool()


def _notes(grids: Sequence[tuple[int, int]], view: AskedView) -> tuple[str, ...]:
    size, notes = view.parameters["size"], []
    if len(grids) > 1:
        notes.append("a window hides patches of one grid; what other grids show of the same place stays visible.")
    if whole := sorted({grid for grid in grids if size >= max(grid)}):
        named = ", ".join(f"{rows} x {cols}" for rows, cols in whole[:4])
        notes.append(f"a window of {size} hides all of a grid of {named}, whose map is one value; lower size.")
    return tuple(notes)
