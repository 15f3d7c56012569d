"""Rows of single heads to the views that were asked for, on the device; one copy to the host per request.

Flow: (layer, heads, rows, image columns, shares) pieces -> one `ViewReducer` per view -> maps and shares -> numpy.
Means are plain arithmetic means of attention rows, as in the older toolkit's reductions 3, 2, 1 and 'none'.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from llava_server.plan import ViewPlan

SHARES = 4


class ViewReducer:
    """Accumulates one view of one request.

    Args:
        plan: which layers and heads, and the reduction.
        rows: captured rows of the request.
        image_tokens: patches N.
        mean_rows: [rows] bool, the rows that a mean over steps takes; used by reduction "all" alone.
        device: where the maps are kept until they are finished.
    """

    def __init__(
        self, plan: ViewPlan, rows: int, image_tokens: int, mean_rows: torch.Tensor, device: torch.device
    ) -> None:
        self._plan = plan
        self._mean_rows = mean_rows
        self._slots = plan.maps_per_query
        # Image columns and shares side by side: [row, slot, N + 4].
        self._sums = torch.zeros((rows, self._slots, image_tokens + SHARES), dtype=torch.float32, device=device)
        self._cells = plan.cells

    def add(self, layer: int, heads: tuple[int, ...], rows: slice, image: torch.Tensor, shares: torch.Tensor) -> None:
        """Takes one chunk of one layer.

        Args:
            layer: 0-based; ignored when the view does not read it.
            heads: the heads of the chunk, in order.
            rows: which rows the chunk holds.
            image: [head, row, N] float32.
            shares: [head, row, 4] float32.
        """
        if layer not in self._cells:
            return
        wanted = [heads.index(head) for head in self._cells[layer]]
        piece = torch.cat([image, shares], dim=-1)[wanted].transpose(0, 1).to(self._sums.device)  # [row, head, N + 4]
        plan = self._plan
        if plan.reduction == "none" and plan.pairs:
            slots = [plan.pairs.index((layer, head)) for head in self._cells[layer]]
            self._sums[rows, slots] = piece
        elif plan.reduction == "none":
            first = plan.layers.index(layer) * len(plan.heads)
            self._sums[rows, first : first + len(plan.heads)] = piece
        elif plan.reduction == "heads":
            self._sums[rows, plan.layers.index(layer)] = piece.mean(1)
        else:
            self._sums[rows, 0] += piece.sum(1)

    def finish(self) -> torch.Tensor:
        """The reduced values, still on the device: [row, slot, N + 4], or [1, 1, N + 4] for reduction "all"."""
        if self._plan.reduction in ("layers_heads", "all"):
            self._sums /= sum(len(heads) for heads in self._cells.values())
        if self._plan.reduction == "all":
            return self._sums[self._mean_rows.to(self._sums.device)].mean(0, keepdim=True)
        return self._sums


@dataclass(frozen=True)
class ReducedView:
    """A finished view on the host.

    Args:
        plan: what was selected.
        maps: [(query), (layer), (head) or (layer_head), row, col] float32.
        shares: [..., 4] float32.
    """

    plan: ViewPlan
    maps: npt.NDArray[np.float32]
    shares: npt.NDArray[np.float32]


def to_host(plans: tuple[ViewPlan, ...], finished: list[torch.Tensor], grid: tuple[int, int]) -> list[ReducedView]:
    """Copies all views of one request to the host in one transfer and gives them their axes."""
    flat = torch.cat([values.reshape(-1) for values in finished]).cpu().numpy()
    views, offset = [], 0
    for plan, values in zip(plans, finished, strict=True):
        block = flat[offset : offset + values.numel()].reshape(values.shape)
        offset += values.numel()
        lead: tuple[int, ...] = () if plan.reduction == "all" else (block.shape[0],)
        if plan.reduction == "none":
            lead += (len(plan.pairs),) if plan.pairs else (len(plan.layers), len(plan.heads))
        elif plan.reduction == "heads":
            lead += (len(plan.layers),)
        block = block.reshape(*lead, block.shape[-1])
        views.append(ReducedView(plan, block[..., :-SHARES].reshape(*lead, *grid), block[..., -SHARES:]))
    return views
