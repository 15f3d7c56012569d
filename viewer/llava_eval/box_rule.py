"""A box out of a map: blur, what is above the mean, the connected part with the largest convex hull, its tight box.

The rule is that of Kang et al., "Your Large Vision-Language Model Only Needs A Few Attention Heads For Visual
Grounding" (CVPR 2025). On grids as small as 8 x 8 the paper's blur costs more than it gives.
"""

from __future__ import annotations

import numpy as np

from llava_eval.truth import MetricError, Truth

_RADIUS = 3
Cell = tuple[int, int]


def overlap(values: np.ndarray, grid: np.ndarray, truth: Truth, blur: float) -> float:
    """Intersection over union of a map's box and the true one.

    Args:
        values: float64 [row, col].
        grid: float64 [row, col, 4], (x0, y0, x1, y1) per patch in pixels.
        truth: one box, or a mask, which counts by its tight box.
        blur: standard deviation in patches; 0: none.

    Raises:
        MetricError: several boxes, or a map without rows and columns.
    """
    if values.ndim != 2:
        raise MetricError(f"map: got {list(values.shape)}, expected [row, col]; a box needs neighbours")
    if truth.dtype == bool:
        rows, columns = np.flatnonzero(truth.any(1)), np.flatnonzero(truth.any(0))
        x0, y0, x1, y1 = map(float, (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    elif len(truth) == 1:
        x0, y0, x1, y1 = map(float, truth[0])
    else:
        raise MetricError(f"truth: got {len(truth)} boxes, expected one; score a map against one object at a time")
    top, left, bottom, right = map_box(values, blur)
    mx0, my0 = map(float, grid[top, left, :2])
    mx1, my1 = map(float, grid[bottom, right, 2:])
    shared = max(0.0, min(x1, mx1) - max(x0, mx0)) * max(0.0, min(y1, my1) - max(y0, my0))
    return shared / ((mx1 - mx0) * (my1 - my0) + (x1 - x0) * (y1 - y0) - shared)


def map_box(values: np.ndarray, blur: float) -> tuple[int, int, int, int]:
    """The first and last row and column of a map's box: top, left, bottom, right; all patches for a flat map.

    Args:
        values: float64 [row, col]; what is below 0 counts as 0.
        blur: standard deviation in patches; 0: none.

    Raises:
        MetricError: a blur below 0.
    """
    if blur < 0:
        raise MetricError(f"parameters.blur: got {blur}, expected 0 or more patches")
    smooth = _blurred(values.clip(0, None), blur)
    found = _parts(smooth > smooth.mean())
    if not found:
        return 0, 0, values.shape[0] - 1, values.shape[1] - 1
    rows, columns = zip(*max(found, key=_hull_area), strict=True)
    return min(rows), min(columns), max(rows), max(columns)


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    """The map convolved with a Gaussian of 7 x 7 patches, mirrored at the edges."""
    if sigma == 0:
        return values
    at = np.arange(-_RADIUS, _RADIUS + 1)
    kernel = np.exp(-(at**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        wide = np.pad(values, [(_RADIUS, _RADIUS) if one == axis else (0, 0) for one in (0, 1)], mode="reflect")
        values = np.apply_along_axis(np.convolve, axis, wide, kernel, mode="valid")
    return values


def _parts(mask: np.ndarray) -> list[list[Cell]]:
    """The connected parts of a mask [row, col], cells that touch at a corner included."""
    left = {(int(row), int(column)) for row, column in np.argwhere(mask)}
    found = []
    while left:
        part = [left.pop()]
        for row, column in part:  # grows while it is read
            near = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= near
            part += near
        found.append(sorted(part))
    return sorted(found)


def _hull_area(cells: list[Cell]) -> float:
    """The area of the convex hull of cells as unit squares, by Andrew's monotone chain."""
    points = sorted({(column + i, row + j) for row, column in cells for i in (0, 1) for j in (0, 1)})
    outline = _half(points)[:-1] + _half(points[::-1])[:-1]
    turned = outline[1:] + outline[:1]
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(outline, turned, strict=True))) / 2


def _half(points: list[Cell]) -> list[Cell]:
    hull: list[Cell] = []
    for x, y in points:
        while len(hull) >= 2:
            (x0, y0), (x1, y1) = hull[-2:]
            if (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0:
                break
            hull.pop()
        hull.append((x, y))
    return hull
