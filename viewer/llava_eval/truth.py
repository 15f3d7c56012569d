"""What is known of a picture: boxes in pixels or a mask, and which patches of a grid they touch.

Flow: boxes or mask -> `as_truth` -> `centres_inside` (which patches) or `covered` (how much of each patch).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Truth = np.ndarray
"""float64 [box, 4], (x0, y0, x1, y1) in pixels of the original picture; or bool [height, width], a mask of its pixels.
Several boxes are one truth: whatever lies in any of them."""


class MetricError(ValueError):
    """A map, a grid, a truth or a metric that cannot be scored."""


def as_truth(given: Sequence[Sequence[float]] | np.ndarray) -> Truth:
    """Boxes or a mask as an array that can be relied on.

    Args:
        given: boxes [box, 4], any numbers; or a mask [height, width], bool.

    Raises:
        MetricError: no box, a box without area, a mask without a pixel, or another shape.
    """
    truth = np.asarray(given)
    if truth.dtype == bool:
        if truth.ndim != 2 or not truth.any():
            raise MetricError(f"truth: got a mask of {truth.shape}, {truth.sum()} pixels set, expected [height, width]")
        return truth
    if truth.ndim != 2 or truth.shape[1:] != (4,) or not len(truth):
        raise MetricError(f"truth: got boxes of {truth.shape}, expected [box, 4] or a mask of bool [height, width]")
    boxes = truth.astype(np.float64)
    wrong = ~(np.isfinite(boxes).all(-1) & (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3]))
    if wrong.any():
        raise MetricError(f"truth: got the box {boxes[wrong][0].tolist()}, expected x0 < x1 and y0 < y1 in pixels")
    return boxes


def centres_inside(grid: np.ndarray, truth: Truth) -> np.ndarray:
    """Which patches have their centre in the truth; a centre on the edge of a box is in it.

    Args:
        grid: float64 [..., 4], (x0, y0, x1, y1) per patch in pixels of the original picture.
        truth: as `as_truth` gives it.

    Returns:
        bool [...].
    """
    x = (grid[..., 0] + grid[..., 2]) / 2  # [...]
    y = (grid[..., 1] + grid[..., 3]) / 2  # [...]
    if truth.dtype == bool:
        height, width = truth.shape
        column, row = np.floor(x).astype(int), np.floor(y).astype(int)
        within = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        found: np.ndarray = within & truth[row.clip(0, height - 1), column.clip(0, width - 1)]
        return found
    inside = np.zeros(x.shape, bool)
    for x0, y0, x1, y1 in truth:
        inside |= (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)
    return inside


def covered(grid: np.ndarray, truth: Truth) -> np.ndarray:
    """How much of every patch the truth covers.

    Args:
        grid: float64 [..., 4], (x0, y0, x1, y1) per patch in pixels of the original picture.
        truth: as `as_truth` gives it.

    Returns:
        float64 [...], 0 to 1 of the patch's area; what two boxes share counts once.
    """
    if truth.dtype == bool:
        x, y, inside = np.arange(truth.shape[1] + 1.0), np.arange(truth.shape[0] + 1.0), truth
    else:
        # All edges of all boxes cut the plane into cells; each is either in a box or in none.
        x, y = np.unique(truth[:, 0::2]), np.unique(truth[:, 1::2])
        inside = np.zeros((len(y) - 1, len(x) - 1), bool)  # [y, x]
        for x0, y0, x1, y1 in truth:
            inside |= ((y[:-1] >= y0) & (y[1:] <= y1))[:, None] & ((x[:-1] >= x0) & (x[1:] <= x1))
    patches = grid.reshape(-1, 4)
    across = _overlaps(patches[:, 0], patches[:, 2], x)  # [patch, x]
    down = _overlaps(patches[:, 1], patches[:, 3], y)  # [patch, y]
    area = ((down @ inside.astype(np.float64)) * across).sum(-1)  # [patch]
    whole = (patches[:, 2] - patches[:, 0]) * (patches[:, 3] - patches[:, 1])
    share: np.ndarray = (area / whole).clip(0, 1).reshape(grid.shape[:-1])
    return share


def object_patches(grid: np.ndarray, truth: Truth) -> int:
    """How many patches are as large as what the grid shows of the truth; at least 1.

    Args:
        grid: float64 [..., 4], (x0, y0, x1, y1) per patch in pixels of the original picture.
        truth: as `as_truth` gives it.
    """
    return max(1, round(float(covered(grid, truth).sum())))


def _overlaps(low: np.ndarray, high: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """[patch, cell] px: how long the part is that an interval per patch has in common with every cell."""
    shared = np.minimum(high[:, None], edges[1:]) - np.maximum(low[:, None], edges[:-1])
    return shared.clip(0, None)
