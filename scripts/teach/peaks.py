"""Judges where a map peaks: maps, patches' rectangles, boxes -> is the strongest patch inside a box; numpy only.

Rectangles are float64 [rows, columns, 4], (x0, y0, x1, y1) per patch in pixels of the original picture, like boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llava_eval.metrics.pointing_game import peak_share
from llava_eval.truth import as_truth, centres_inside
from teach.pictures import Box


def centre_crop_rectangles(width_px: int, height_px: int, grid: int) -> np.ndarray:
    """Rectangles [grid, grid, 4] of the patches where the central square is what the model sees."""
    side = min(width_px, height_px)
    edges = np.arange(grid + 1) * side / grid
    return _rectangles(edges + (width_px - side) / 2, edges + (height_px - side) / 2)


def whole_rectangles(width_px: int, height_px: int, grid: int) -> np.ndarray:
    """Rectangles [grid, grid, 4] as somebody who forgot the crop would lay them: over the whole picture."""
    return _rectangles(np.arange(grid + 1) * width_px / grid, np.arange(grid + 1) * height_px / grid)


def peaks_inside(maps: np.ndarray, rectangles: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """maps [..., rows, columns], any float -> [...] bool: does the strongest patch have its centre in one of the boxes.
    Patches that tie must all have."""
    if maps.shape[-2:] != rectangles.shape[:2]:
        raise ValueError(f"maps of {maps.shape[-2:]} patches, rectangles of {rectangles.shape[:2]}")
    inside = centres_inside(rectangles, as_truth([*boxes]))
    return peak_share(maps.reshape(*maps.shape[:-2], -1), inside.ravel()) == 1


def _rectangles(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    left, top = np.meshgrid(x[:-1], y[:-1])
    right, bottom = np.meshgrid(x[1:], y[1:])
    return np.stack([left, top, right, bottom], axis=-1)
