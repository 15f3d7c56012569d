"""Methods look at one item of a finished run; their maps stay on the device, then one copy takes all to the host.

Flow: views -> their methods (llava_doors) -> one pass over the layers' attention rows for all that fold rows, then the
others, one by one -> maps [row, slot, patch] and shares -> means over steps -> numpy, or blocks (`blocks`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from llava_doors.method import Fold, Maps, Method, RowMethod, Seen
from llava_server.ask.methods import load_method, named_by
from llava_server.ask.plan import ViewPlan, cells_of
from llava_server.attend.rows import RowLayout
from llava_server.attend.seen import SeenRows, Sights
from llava_server.load.memory import is_out_of_memory
from llava_server.look.blocks import stored_in_blocks
from llava_wire.codes.quantize import Stored
from llava_wire.errors import RequestError
from llava_wire.schema import Note

_NOTES, _NOTE_CHARS = 4, 400
"""Notes of one view that a record keeps: a method may be a stranger's, and a record has limits."""


@dataclass(frozen=True)
class Reduced:
    """All views of one item, still on the device.

    Args:
        views: per view maps [row, slot, N] float32, and shares [row, slot, 4] and separators [row, slot], or None; one
            row where steps are averaged.
        sights: what the rows could see.
        notes: what methods say of their maps.
    """

    views: list[Maps]
    sights: Sights
    notes: tuple[Note, ...]


def reduced_views(views: Sequence[ViewPlan], seen: SeenRows, mean_rows: torch.Tensor) -> Reduced:
    """All views of one item of a finished batch; each layer's attention rows are computed once for all of them.

    Args:
        views: what was asked for.
        seen: the run.
        mean_rows: [rows] bool, the rows that a mean over steps takes.

    Raises:
        RequestError: "internal", a method that failed, or whose maps are of another shape or type than it should make.
    """
    # Tensors of inference mode could not take part in a replay with gradients.
    with torch.inference_mode(False), torch.no_grad():
        layout = seen.layout
        if layout.positions.is_inference():
            seen = replace(seen, layout=replace(layout, positions=layout.positions.clone()))
        methods = [load_method(view.method) for view in views]
        found = dict(_folded(views, methods, seen))
        for i, (view, method) in enumerate(zip(views, methods, strict=True)):
            if i not in found:
                with torch.set_grad_enabled(view.needs.gradients != "none"), _blamed(view):
                    maps = method.maps(cast(Seen, seen.declaring(view.needs)), view)
                found[i] = maps if isinstance(maps, Maps) else Maps(maps)
        finished = [finished_maps(view, found[i], layout, mean_rows) for i, view in enumerate(views)]
    notes = [
        Note("method", "options.views", f"{_titled(view)}: {text:.{_NOTE_CHARS}}")
        for view, maps in zip(views, finished, strict=True)
        for text in maps.notes[:_NOTES]
    ]
    return Reduced(finished, seen.sights, tuple(notes))


def _titled(view: ViewPlan) -> str:
    """A view and its method, once where they have one name."""
    return f"View “{view.name}”" + (f", {view.method}" if view.method != view.name else "")


def _folded(views: Sequence[ViewPlan], methods: Sequence[Method], seen: SeenRows) -> list[tuple[int, Maps]]:
    """The views of methods that take rows block by block, with their places."""
    folds: list[tuple[int, ViewPlan, Fold]] = []
    for i, (view, method) in enumerate(zip(views, methods, strict=True)):
        if isinstance(method, RowMethod) and view.needs.gradients == "none":
            with _blamed(view):
                folds.append((i, view, method.fold(cast(Seen, seen.declaring(view.needs)), view)))
    for block in seen.rows(cells_of([view for _, view, _ in folds])):
        for _, view, fold in folds:
            with _blamed(view):
                fold.add(block)
    finished = []
    for i, view, fold in folds:
        with _blamed(view):
            finished.append((i, fold.finish()))
    return finished


@contextmanager
def _blamed(view: ViewPlan) -> Iterator[None]:
    """Says which method failed: it may be a stranger's, and the batch has other requests.

    Raises:
        RequestError: "internal"; running out of memory stays what it is.
    """
    try:
        with named_by(view.field):
            yield
    except RequestError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise RequestError(
            "internal",
            f"{view.field}.method",
            f"got {type(error).__name__} ({str(error)[:400]}) from method {view.method!r}, expected maps; correct the "
            "method, or ask for another",
        ) from error


def finished_maps(view: ViewPlan, maps: Maps, layout: RowLayout, mean_rows: torch.Tensor) -> Maps:
    """The maps of a view as they are copied, averaged over steps where it says so."""
    lead = (len(layout.positions), len(view.slots))
    split = torch.stack([*maps.parts.values()], -1) if maps.parts else None
    apart = None if maps.separators is None else maps.separators[..., None]
    arrays = (maps.values, maps.shares, split, apart)
    columns = len(layout.words) if view.is_text else layout.patches
    for values, width in zip(arrays, (columns, 4, len(maps.parts), 1), strict=True):
        if values is not None and (tuple(values.shape) != (*lead, width) or values.dtype != torch.float32):
            raise RequestError(
                "internal",
                f"{view.field}.method",
                f"got maps of {list(values.shape)} in {values.dtype} from method {view.method!r}, expected "
                f"{[*lead, width]} in torch.float32; correct the method",
            )
    kept = [None if values is None else values.detach() for values in arrays]
    if view.reduction.over_steps:
        kept = [
            None if values is None else values[mean_rows.to(values.device)].mean(0, keepdim=True) for values in kept
        ]
    assert kept[0] is not None
    parts = {} if kept[2] is None else dict(zip(maps.parts, kept[2].unbind(-1), strict=True))
    return Maps(kept[0], kept[1], parts, maps.notes, None if kept[3] is None else kept[3][..., 0])


@dataclass(frozen=True)
class ReducedView:
    """A finished view on the host.

    Args:
        plan: what was selected.
        maps: [(query), (layer), (head) or (layer_head), patch] float32; or in blocks, as the record will hold them.
        finite: whether all of their numbers are; others are not to be stored.
        shares: [..., 4] float32, or None where the quantity is no share.
        parts: [..., part] float32 in the order of `names`, or None where there are none.
        separators: [...] float32, or None.
    """

    plan: ViewPlan
    maps: npt.NDArray[np.float32] | Stored
    finite: bool
    shares: npt.NDArray[np.float32] | None
    parts: npt.NDArray[np.float32] | None = None
    names: tuple[str, ...] = ()
    separators: npt.NDArray[np.float32] | None = None


def to_host(
    plans: Sequence[ViewPlan], finished: Sequence[Maps], blocks_of: Sequence[tuple[int, int]] | None = None
) -> list[ReducedView]:
    """Copies all views of one request to the host in one transfer and gives them their axes.

    Args:
        plans, finished: the views.
        blocks_of: rows and columns of the grids, where maps of patches are to be stored in blocks: these are folded
            first.

    Raises:
        ValueError: maps or grids that blocks do not hold.
    """
    leads = [_lead(plan, maps) for plan, maps in zip(plans, finished, strict=True)]
    folded: list[Stored | None] = [None] * len(plans)
    if blocks_of is not None:
        folded = [
            None if plan.is_text else stored_in_blocks(maps.values, lead, blocks_of)
            for plan, maps, lead in zip(plans, finished, leads, strict=True)
        ]
    arrays = [
        (
            # Of maps that are not finite the numbers go over, to be refused there.
            maps.values if one is None else None,
            maps.shares,
            torch.stack([*maps.parts.values()], -1) if maps.parts else None,
            None if maps.separators is None else maps.separators[..., None],
        )
        for maps, one in zip(finished, folded, strict=True)
    ]
    present = [values for each in arrays for values in each if values is not None]
    flat = torch.cat([values.reshape(-1).to(present[0].device) for values in present]).cpu().numpy()
    views, offset = [], 0
    for plan, maps, each, lead, stored in zip(plans, finished, arrays, leads, folded, strict=True):
        taken: list[npt.NDArray[np.float32] | None] = []
        for values in each:
            if values is None:
                taken.append(None)
                continue
            taken.append(flat[offset : offset + values.numel()].reshape(*lead, values.shape[-1]))
            offset += values.numel()
        held = stored if taken[0] is None else taken[0]
        assert held is not None
        finite = isinstance(held, Stored) or bool(np.isfinite(held).all())
        apart = None if taken[3] is None else taken[3][..., 0]
        views.append(ReducedView(plan, held, finite, taken[1], taken[2], tuple(maps.parts), apart))
    return views


def _lead(plan: ViewPlan, maps: Maps) -> tuple[int, ...]:
    """The axes of a view's maps in the record, without the patches."""
    return (*(() if plan.reduction.over_steps else (maps.values.shape[0],)), *plan.kept_shape)
