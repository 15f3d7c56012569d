"""How the attention of a row splits over several images and their grids, so that these compare.

Flow: a record of several grids + the panels of its views on each of them -> the same panels, each frame with a line for
every image and grid: its share, and that over an even spread over all patches of the record, which no grid's number of
patches moves. `static/report/onto.js` writes the same lines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from llava_viewer.look import wording
from llava_viewer.look.view_model import Frame, Patch, ViewPanel
from llava_wire.grids import Grid
from llava_wire.record import Record


def parts_of(grids: Sequence[Grid]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """What lines there are: a name and the numbers of the grids that it stands for; images before their grids."""
    images = sorted({grid.image for grid in grids})
    lines: list[tuple[str, tuple[int, ...]]] = []
    for image in images:
        own = [number for number, grid in enumerate(grids) if grid.image == image]
        if len(images) > 1:
            lines.append((f"image {image + 1}", tuple(own)))
        if len(own) > 1 or len(images) == 1:
            lines += [(grids[number].name, (number,)) for number in own]
    return tuple(lines)


def told(grids: Sequence[Grid]) -> str:
    """The lines for the page's script: JSON of [name, numbers of its grids, its patches]."""
    return json.dumps(
        [[name, own, sum(grids[number].patches for number in own)] for name, own in parts_of(grids)],
        separators=(",", ":"),
        ensure_ascii=False,
    )


def with_lines(record: Record, panels: Sequence[ViewPanel]) -> tuple[ViewPanel, ...]:
    """The panels of a record, their frames with the lines where there are several grids.

    Args:
        record: the record.
        panels: all views on the first grid, then on the next.
    """
    if len(record.grids) == 1:
        return tuple(panels)
    sums = [view.sums_by_grid() if view.quantity.is_share else None for view in record.views.values()]
    return tuple(_with_lines(record.grids, panel, sums[i % len(sums)]) for i, panel in enumerate(panels))


def _with_lines(grids: Sequence[Grid], panel: ViewPanel, sums: npt.NDArray[np.float64] | None) -> ViewPanel:
    if sums is None:
        return panel
    rows = sums.shape[0] if panel.has_rows else 1
    split = sums.reshape(rows, -1, len(grids))  # [row, map, grid]
    slots = []
    for number, slot in enumerate(panel.slots):
        # The first of several slots is the mean of all maps.
        chosen = split.mean(axis=1) if number == 0 else split[:, number - 1]
        frames = [_frame(grids, frame, chosen[row]) for row, frame in enumerate(slot.frames)]
        slots.append(replace(slot, frames=tuple(frames)))
    return replace(panel, slots=tuple(slots))


def _frame(grids: Sequence[Grid], frame: Frame, sums: npt.NDArray[np.float64]) -> Frame:
    total, patches = float(sums.sum()), sum(grid.patches for grid in grids)
    lines = []
    for name, own in parts_of(grids):
        share, even = float(sums[list(own)].sum()), total * sum(grids[number].patches for number in own) / patches
        lines.append(Patch(name, wording.percent(share), wording.times(share / even) if even > 0 else "–"))
    return replace(frame, onto=tuple(lines))
