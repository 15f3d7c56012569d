"""RISE: how much likelier a word is when a patch is shown, over many random masks.

Flow: random coarse masks, enlarged and shifted, a value in 0 to 1 for each patch -> each patch's image token mixed with
their mean by it -> log p of every row's word, all rows in one pass -> m_j = the mean of log p, weighed by how far each
mask shows patch j, less the mean over all masks (Petsiuk et al. 2018, "RISE: randomized input sampling for explanation
of black-box models", BMVC, arXiv 1806.07421).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llava_doors.asked import AskedView, Reach, Shape
from llava_doors.door import Declaration, Parameter
from llava_doors.method import Method, Needs, Seen
from llava_wire.quantity import Quantity

if TYPE_CHECKING:
    import torch

SHOWN = 0.5
"""The probability that a coarse cell is shown, as in the paper."""
_FLOAT, _SIDE_BY_SIDE = 4, 8
DECLARATION = Declaration(
    name="rise",
    summary="How much a word's log p rises when a patch is shown, over many random masks of the image.",
    implementation="llava_doors.methods.rise:Rise",
    parameters=(
        Parameter("masks", "integer", 128, "Random masks, a pass each; more are less noisy.", above=15, up_to=4096),
        Parameter("cells", "integer", 4, "Rows and columns of a coarse mask.", above=1, up_to=64),
        Parameter("seed", "integer", 0, "Of the random masks.", above=-1, up_to=2**31 - 1),
    ),
    quantity=Quantity("rise of log p", "nats", signed=True),
    traits={"heads": False},
)


class Rise(Method):
    """One pass for each mask."""

    def needs(self, view: AskedView, facts: Shape) -> Needs:
        """See `Method`."""
        return Needs(rows="none", passes=_SIDE_BY_SIDE)

    def passes(self, view: AskedView, facts: Shape, reach: Reach) -> int:
        """See `Method`: one for each mask."""
        count: int = view.parameters["masks"]
        return count

    def extra_bytes(self, view: AskedView, facts: Shape, reach: Reach) -> int:
        """See `Method`: masks while they are enlarged, log p, maps, and what goes into the passes."""
        count, cells = view.parameters["masks"], view.parameters["cells"]
        enlarged = sum((cells + 1) ** 2 * (-(-rows // cells)) * (-(-cols // cells)) for rows, cols in reach.grids)
        numbers = count * (2 * enlarged + 2 * reach.patches + 2 * reach.rows) + 3 * reach.rows * reach.patches
        return _FLOAT * (numbers + 3 * _SIDE_BY_SIDE * reach.length * facts.width)

    def maps(self, seen: Seen, view: AskedView) -> torch.Tensor:
        """See `Method`."""
        import torch

        shown = masks(seen.grids, view)  # [mask, patch]
        found = seen.log_probs(shown)  # [mask, row]
        shown = shown.to(found.device)
        weights = shown.sum(0)[:, None]  # [patch, 1]
        means = torch.where(weights > 0, shown.T @ (found - found.mean(0)) / weights.clamp(min=1e-6), 0.0)
        return means.T[:, None].to(seen.device).contiguous()


def masks(grids: Sequence[tuple[int, int]], view: AskedView) -> torch.Tensor:
    """[mask, patch] float32 in 0 to 1: how far each mask shows each patch, one grid after another.

    The same for the same seed on every device: they are drawn on the CPU.
    """
    import torch
    from torch.nn.functional import interpolate

    count, cells = view.parameters["masks"], view.parameters["cells"]
    drawn = torch.Generator().manual_seed(view.parameters["seed"])
    parts = []
    for rows, cols in grids:
        coarse = (torch.rand((count, 1, cells + 1, cells + 1), generator=drawn) < SHOWN).float()
        high, wide = -(-rows // cells), -(-cols // cells)  # patches that a coarse cell covers
        large = interpolate(coarse, size=((cells + 1) * high, (cells + 1) * wide), mode="bilinear", align_corners=False)
        tops = torch.randint(high, (count,), generator=drawn).tolist()
        lefts = torch.randint(wide, (count,), generator=drawn).tolist()
        crops = [one[0, y : y + rows, x : x + cols] for one, y, x in zip(large, tops, lefts, strict=True)]
        parts.append(torch.stack(crops).flatten(1))
    return torch.cat(parts, 1)
