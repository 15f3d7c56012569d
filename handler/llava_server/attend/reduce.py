"""Methods look at one item of a finished run; their maps stay on the device, then one copy takes all to the host.

Flow: views -> their methods (llava_doors) -> one pass over the layers' attention rows for all that fold rows, then the
others, one by one -> maps [row, slot, patch] and shares -> means over steps -> numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from llava_doors.door import METHODS
from llava_doors.method import Fold, Maps, RowMethod, Seen
from llava_server.ask.plan import ViewPlan, cells_of
from llava_server.attend.rows import RowLayout
from llava_server.attend.seen import SeenRows, Sights


@dataclass(frozen=True)
class Reduced:
    """All views of one item, still on the device.

    Args:
        views: per view maps [row, slot, N] float32 and shares [row, slot, 4] or None; one row where steps are averaged.
        sights: what the rows could see.
    """

    views: list[Maps]
    sights: Sights


def reduced_views(views: Sequence[ViewPlan], seen: SeenRows, mean_rows: torch.Tensor) -> Reduced:
    """All views of one item of a finished batch; each layer's attention rows are computed once for all of them.

    Args:
        views: what was asked for.
        seen: the run.
        mean_rows: [rows] bool, the rows that a mean over steps takes.

    Raises:
        RuntimeError: a method whose maps are of another shape or type than it should make.
    """
    # Tensors of inference mode could not take part in a replay with gradients.
    with torch.inference_mode(False), torch.no_grad():
        found: list[Maps | None] = [None] * len(views)
        for i, maps in _folded(views, seen):
            found[i] = maps
        for i, view in enumerate(views):
            if found[i] is None:
                with torch.set_grad_enabled(view.needs.gradients != "none"):
                    made = METHODS.load(view.method).maps(seen.declaring(view.needs), view)
                found[i] = made if isinstance(made, Maps) else Maps(made)
        layout = seen.layout
    finished = [finished_maps(view, maps, layout, mean_rows) for view, maps in zip(views, found, strict=True) if maps]
    return Reduced(finished, seen.sights)


def _folded(views: Sequence[ViewPlan], seen: SeenRows) -> list[tuple[int, Maps]]:
    """The views of methods that take rows block by block, with their places."""
    folds: list[tuple[int, Fold]] = []
    for i, view in enumerate(views):
        method = METHODS.load(view.method)
        if isinstance(method, RowMethod) and view.needs.gradients == "none":
            folds.append((i, method.fold(cast(Seen, seen.declaring(view.needs)), view)))
    for block in seen.rows(cells_of([views[i] for i, _ in folds])):
        for _, fold in folds:
            fold.add(block)
    return [(i, fold.finish()) for i, fold in folds]


def finished_maps(view: ViewPlan, maps: Maps, layout: RowLayout, mean_rows: torch.Tensor) -> Maps:
    """The maps of a view as they are copied, averaged over steps where it says so."""
    lead = (len(layout.positions), len(view.slots))
    for values, width in ((maps.values, layout.image_count), (maps.shares, 4)):
        if values is not None and (tuple(values.shape) != (*lead, width) or values.dtype != torch.float32):
            raise RuntimeError(
                f"method {view.method!r}: got maps of {list(values.shape)} in {values.dtype}, expected "
                f"{[*lead, width]} in torch.float32; correct the method"
            )
    kept = [None if values is None else values.detach() for values in (maps.values, maps.shares)]
    if view.reduction.over_steps:
        kept = [
            None if values is None else values[mean_rows.to(values.device)].mean(0, keepdim=True) for values in kept
        ]
    assert kept[0] is not None
    return Maps(kept[0], kept[1])


@dataclass(frozen=True)
class ReducedView:
    """A finished view on the host.

    Args:
        plan: what was selected.
        maps: [(query), (layer), (head) or (layer_head), row, col] float32.
        shares: [..., 4] float32, or None where the quantity is no share.
    """

    plan: ViewPlan
    maps: npt.NDArray[np.float32]
    shares: npt.NDArray[np.float32] | None


def to_host(plans: Sequence[ViewPlan], finished: Sequence[Maps], grid: tuple[int, int]) -> list[ReducedView]:
    """Copies all views of one request to the host in one transfer and gives them their axes."""
    parts = [values for maps in finished for values in (maps.values, maps.shares) if values is not None]
    home = parts[0].device
    flat = torch.cat([values.reshape(-1).to(home) for values in parts]).cpu().numpy()
    views, offset = [], 0
    for plan, maps in zip(plans, finished, strict=True):
        lead = (*(() if plan.reduction.over_steps else (maps.values.shape[0],)), *plan.kept_shape)
        taken = []
        for values, shape in ((maps.values, grid), (maps.shares, (4,))):
            if values is not None:
                taken.append(flat[offset : offset + values.numel()].reshape(*lead, *shape))
                offset += values.numel()
        views.append(ReducedView(plan, taken[0], taken[1] if len(taken) > 1 else None))
    return views
