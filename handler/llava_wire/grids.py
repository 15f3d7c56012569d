"""Grids: the runs of patches that maps lie on, each with its picture, its shape and its places in the prompt.

Flow: record.json's `grids` -> `Grid`s -> `pick` (one of them by name or number) and `span` (its part of a map).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Run = tuple[int, int]
"""Positions that follow one another: (first, how many)."""


@dataclass(frozen=True)
class Step:
    """One step of the image processor.

    op "pad": the picture is placed at (left_px, top_px) on a canvas of width_px x height_px.
    op "resize": the picture is scaled to width_px x height_px; left_px and top_px are 0.
    op "crop": the window of width_px x height_px whose corner is at (left_px, top_px) is kept; an offset may be
    negative, and what lies outside the picture is filled.
    op "trim": the picture is a row or a grid of equal tiles; of each the last left_px columns and top_px rows are left
    out, because no patch reads them, and width_px x height_px remain. A grid has one at most.
    """

    op: Literal["pad", "resize", "crop", "trim"]
    width_px: int
    height_px: int
    left_px: int = 0
    top_px: int = 0


@dataclass(frozen=True)
class Grid:
    """One grid of patches.

    Args:
        image: which of the record's pictures it shows, from 0.
        name: unique in the record: "base", "tile 0,1", "detail".
        rows, cols: its patches.
        patch_px: side of a patch in px of the processed picture.
        steps: what the image processor did to the picture, in order.
        positions: where its patches lie in the prompt's ids, in row-major order, as runs. Newline and separator tokens
            belong to no grid.
    """

    image: int
    name: str
    rows: int
    cols: int
    patch_px: int
    steps: tuple[Step, ...]
    positions: tuple[Run, ...]

    @property
    def patches(self) -> int:
        """How many patches it has."""
        return self.rows * self.cols


def pick(grids: Sequence[Grid], which: str | int | None = None) -> int:
    """The number of the grid of this name or number; of the only one where none is named.

    Raises:
        ValueError: there is none, or one must be named; the message lists them.
    """
    names = [grid.name for grid in grids]
    if which is None:
        if len(grids) == 1:
            return 0
        raise ValueError(f"grid: got none, expected one of {names}, because the record has {len(grids)} grids; name it")
    if isinstance(which, str) and which in names:
        return names.index(which)
    if isinstance(which, int) and not isinstance(which, bool) and 0 <= which < len(grids):
        return which
    raise ValueError(f"grid: got {which!r:.80}, expected one of {names} or 0 to {len(grids) - 1}")


def span(grids: Sequence[Grid], number: int) -> slice:
    """The part of a map's patches that lies on one grid."""
    start = sum(grid.patches for grid in grids[:number])
    return slice(start, start + grids[number].patches)


def image_runs(grids: Sequence[Grid]) -> tuple[Run, ...]:
    """The prompt positions of all patches in ascending order, as few runs as possible."""
    return _joined(sorted(run for grid in grids for run in grid.positions))


def runs_of(positions: Sequence[int]) -> tuple[Run, ...]:
    """The same positions, in their order, as few runs as possible."""
    return ((positions.start, len(positions)),) if isinstance(positions, range) else _joined((p, 1) for p in positions)


def _joined(runs: Iterable[Run]) -> tuple[Run, ...]:
    """The same runs, each that goes on where the one before it ends made one with it."""
    joined: list[Run] = []
    for start, count in runs:
        if joined and sum(joined[-1]) == start:
            joined[-1] = (joined[-1][0], joined[-1][1] + count)
        else:
            joined.append((start, count))
    return tuple(joined)
