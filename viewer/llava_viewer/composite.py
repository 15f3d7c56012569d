"""One map of an image that the model saw in several grids: every place shows its finest grid, as a density.

Flow: the grids of one image -> the lattice of the finest, widened over the whole image -> for each of its cells the
patch of the finest grid that covers the cell's centre, and how much of that patch the cell is -> maps on the lattice.

A patch of a coarse grid is larger than one of a fine grid, so that equal attention over an area is more on each of its
patches. Divided by area both are densities, which compare; here the unit of area is a cell, so that cells of the finest
grid keep the record's own numbers. What lies on coarser grids below is not in the map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from llava_wire.geometry import Geometry
from llava_wire.grids import Grid, Step, span
from llava_wire.record import Record
from llava_wire.view import View

NAME = "composite"


@dataclass(frozen=True)
class Composite:
    """The lattice of one image and where its values come from.

    Args:
        grid: the lattice as a grid; it has no places in the prompt.
        patch: [row, col], which of the record's patches each cell shows, counted over all grids; -1 where none is.
        part: [row, col], how much of that patch's area the cell is: 1 on the finest grid.
        seen: [row, col], how much of the cell lies on the image, so that what it shows of a coarser grid adds up; 1 on
            the finest grid.
    """

    grid: Grid
    patch: npt.NDArray[np.int64]
    part: npt.NDArray[np.float64]
    seen: npt.NDArray[np.float64]

    def of(self, view: View) -> npt.NDArray[np.float32]:
        """The maps of a view on the lattice, float32 [..., row, col]; what does not add up over patches is not divided.

        Args:
            view: of the record that this was made for.
        """
        part = self.part if view.quantity.additive else np.ones_like(self.part)
        values = view.patches_float()[..., self.patch] * np.where(self.patch < 0, 0.0, part)
        return values.astype(np.float32)


def composites(record: Record) -> dict[str, int]:
    """The names of a record's composites and their images: of each image with several grids."""
    images = [grid.image for grid in record.grids]
    one = len(record.facts.images) == 1
    return {
        NAME if one else f"image {image + 1}, {NAME}": image
        for image in dict.fromkeys(images)
        if images.count(image) > 1
    }


def composite_of(record: Record, image: int = 0) -> Composite:
    """The composite of one image.

    Args:
        record: one with several grids on the image.
        image: its number from 0.

    Raises:
        ValueError: the image has one grid, which is the whole map.
    """
    numbers = [number for number, grid in enumerate(record.grids) if grid.image == image]
    if len(numbers) < 2:
        raise ValueError(f"image: got {image} with {len(numbers)} grids, expected one with several; take its own grid")
    rects = {number: record.geometry_of(number).patch_rects() for number in numbers}
    numbers.sort(key=lambda number: _area(rects[number][0, 0]))
    geometry = widened(record.geometry_of(numbers[0]))
    cells = geometry.patch_rects()
    on_image = cells.clip(0, (geometry.width_px, geometry.height_px) * 2)
    patch = np.full((geometry.rows, geometry.cols), -1, np.int64)
    part, seen = np.zeros(patch.shape), np.ones(patch.shape)
    for number in numbers:
        # A cell of the finest grid may lie on padding; of another one its part on the image is asked.
        own = cells if number == numbers[0] else on_image
        row, col, inside = _places(rects[number], *(own[..., :2] + own[..., 2:]).transpose(2, 0, 1) / 2)
        taken = inside & (patch < 0)
        start, cols = span(record.grids, number).start, record.grids[number].cols
        patch[taken] = (start + row * cols + col)[taken]
        part[taken] = 1 if own is cells else _area(cells[0, 0]) / _area(rects[number][0, 0])
        seen[taken] = 1 if own is cells else (_areas(on_image) / _areas(cells))[taken]
    names = {other: name for name, other in composites(record).items()}
    return Composite(geometry.grid((), names[image], image), patch, part, seen)


def on_composite(record: Record, name: str) -> tuple[Grid, dict[str, View]]:
    """A composite's lattice and all views of a record on it.

    The share of the image in a row is what the map shows, but for what its outermost cells have beyond the image.
    """
    made = composite_of(record, composites(record)[name])
    grid = replace(made.grid, image=0)
    return grid, {view.name: _on(view, made, grid) for view in record.views.values()}


def _on(view: View, made: Composite, grid: Grid) -> View:
    maps = made.of(view)
    shares = view.shares
    if shares is not None:
        shares = shares.copy()
        shares[..., 1] = (maps * made.seen).sum(axis=(-2, -1), dtype=np.float64)
    facts = replace(view.facts, precision="float32")
    flat = maps.reshape(*view.lead, grid.patches)
    found = View.of(facts, flat, shares, (grid,), view.parts, view.separators)
    return replace(found, facts=replace(found.facts, error_bound=view.facts.error_bound))


def widened(geometry: Geometry) -> Geometry:
    """A grid with as many more rows and columns of patches on each side as its image reaches beyond it."""
    x0, y0, x1, y1 = (float(value) for value in (*_corner(geometry, 0), *_corner(geometry, -1)))
    width, height = (x1 - x0) / geometry.cols, (y1 - y0) / geometry.rows
    left, top = _more(x0 / width), _more(y0 / height)
    right, bottom = _more((geometry.width_px - x1) / width), _more((geometry.height_px - y1) / height)
    if not left + top + right + bottom:
        return geometry
    rows, cols, side = geometry.rows + top + bottom, geometry.cols + left + right, geometry.patch_px
    window = Step("crop", cols * side, rows * side, -left * side, -top * side)
    return replace(geometry, steps=(*geometry.steps, window), rows=rows, cols=cols)


def _corner(geometry: Geometry, which: int) -> npt.NDArray[np.float64]:
    rects = geometry.patch_rects()
    return rects[0, 0, :2] if which == 0 else rects[-1, -1, 2:]


def _more(patches: float) -> int:
    """Whole patches over a gap of so many; slivers of rounding are none."""
    return max(0, math.ceil(patches - 1e-6))


def _area(rect: npt.NDArray[np.float64]) -> float:
    return float(_areas(rect))


def _areas(rects: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    sides = rects[..., 2:] - rects[..., :2]
    return np.asarray(sides[..., 0] * sides[..., 1])


def _places(
    rects: npt.NDArray[np.float64], x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Row and column of the patches at some points, and whether a patch is there."""
    rows, cols = rects.shape[:2]
    x0, y0, x1, y1 = *rects[0, 0, :2], *rects[-1, -1, 2:]
    col, row = (x - x0) * cols / (x1 - x0), (y - y0) * rows / (y1 - y0)
    inside = (col >= 0) & (col < cols) & (row >= 0) & (row < rows)
    return np.floor(row).astype(np.int64), np.floor(col).astype(np.int64), inside
