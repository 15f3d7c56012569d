"""Rows of single heads to the views that were asked for, on the device; one copy to the host per request.

Flow: captured queries + cached keys, layer by layer -> blocks of attention rows (rows.py) -> one `ViewReducer` per view
-> maps and shares -> numpy.
Means are plain arithmetic means of attention rows, as in the older toolkit's reductions 3, 2, 1 and 'none'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from llava_server.ask.plan import ViewPlan, cells_of
from llava_server.attend.capture import QueryCapture
from llava_server.attend.rows import RowLayout, attention_rows, span

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
        self._cells = plan.cells
        self._slot_of = {cell: slot for slot, cells in enumerate(plan.slots) for cell in cells}
        self._divisor = len(plan.slots[0])
        # Image columns and shares side by side, [row, slot, N + 4], so that one copy takes both to the host.
        shape = (rows, plan.maps_per_query, image_tokens + SHARES)
        self._sums = torch.zeros(shape, dtype=torch.float32, device=device)
        self._image, self._shares = self._sums[..., :image_tokens], self._sums[..., image_tokens:]

    def add(self, layer: int, heads: tuple[int, ...], rows: slice, image: torch.Tensor, shares: torch.Tensor) -> None:
        """Takes one block of one layer.

        Args:
            layer: 0-based; ignored when the view does not read it.
            heads: the heads of the block, in order; those that the view does not read are ignored.
            rows: which rows the block holds.
            image: [head, row, N] float32.
            shares: [head, row, 4] float32.
        """
        wanted = [head for head in self._cells.get(layer, ()) if head in heads]
        if not wanted:
            return
        among, slots = span([heads.index(head) for head in wanted]), [self._slot_of[layer, head] for head in wanted]
        if self._divisor == 1:
            for part, values in ((self._image, image), (self._shares, shares)):
                part[rows, span(slots)] = values[among].transpose(0, 1).to(part.device)
            return
        for part, values in ((self._image, image), (self._shares, shares)):
            part[rows, slots[0]] += values[among].sum(0).to(part.device)

    def finish(self) -> torch.Tensor:
        """The reduced values, still on the device: [row, slot, N + 4], or [1, 1, N + 4] for reduction "all"."""
        if self._divisor > 1:
            self._sums /= self._divisor
        if self._plan.reduction.over_steps:
            return self._sums[self._mean_rows.to(self._sums.device)].mean(0, keepdim=True)
        return self._sums


@dataclass(frozen=True)
class Reduced:
    """All views of one item, still on the device.

    Args:
        views: per view [row, slot, N + 4] float32, or [1, 1, N + 4] for reduction "all".
        sights: groups of layers that share their masks -> which keys their rows could see, [row, key] bool counted
            without padding; None when each row saw all up to its own position.
    """

    views: list[torch.Tensor]
    sights: dict[tuple[int, ...], torch.Tensor | None]


def reduced_views(
    views: tuple[ViewPlan, ...],
    capture: QueryCapture,
    keys: Sequence[torch.Tensor],
    item: int,
    layout: RowLayout,
    mean_rows: torch.Tensor,
    device: torch.device,
) -> Reduced:
    """All views of one item of a finished batch; each layer's attention rows are computed once for all of them.

    Args:
        views: what was asked for.
        capture: the batch's queries; it holds every row of the layout.
        keys: per layer [batch, kv head, padded key, head_dim], the cached keys.
        item: the item's place in the batch.
        layout: where its tokens lie and which rows are wanted.
        mean_rows: [rows] bool, the rows that reduction "all" takes.
        device: where the reduced maps are kept.
    """
    rows = len(layout.positions)
    reducers = [ViewReducer(view, rows, layout.image_count, mean_rows, device) for view in views]
    pick = capture.pick(item, [layout.pad + position for position in layout.positions.tolist()], device)
    sights: dict[int, torch.Tensor | None] = {}  # by the first layer of each group
    groups: dict[int, list[int]] = {}
    for layer, heads in cells_of(views).items():
        queries = capture.queries(layer, item, pick)
        first = next((other for other in groups if capture.same_sight(layer, other)), layer)
        if first == layer:
            sights[layer] = capture.sight(layer, item, pick, layout)
        groups.setdefault(first, []).append(layer)
        for block in attention_rows(queries, keys[layer][item], heads, capture.scaling[layer], layout, sights[first]):
            for reducer in reducers:
                reducer.add(layer, *block)
    finished = [reducer.finish() for reducer in reducers]
    return Reduced(finished, {tuple(group): sights[first] for first, group in groups.items()})


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
        lead = (*(() if plan.reduction.over_steps else (block.shape[0],)), *plan.kept_shape)
        block = block.reshape(*lead, block.shape[-1])
        views.append(ReducedView(plan, block[..., :-SHARES].reshape(*lead, *grid), block[..., -SHARES:]))
    return views
