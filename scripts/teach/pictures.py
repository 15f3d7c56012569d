"""A scene's picture: the square of it that a model sees, boxes of what lies in it, and what it is without that."""

from __future__ import annotations

import numpy as np
from PIL import Image

from teach.world import Scene

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixel *edges*: a box that holds pixel columns 3..5 has x0 = 3 and x1 = 6."""
Point = tuple[float, float]


class Framed:
    """A picture's size, and the frame of its central square.

    Args:
        width_px, height_px: of the picture.
    """

    width_px: int
    height_px: int

    @property
    def side_px(self) -> int:
        """Of the central square."""
        return min(self.width_px, self.height_px)

    def in_crop(self, point: Point) -> Point:
        """A point of the picture in the frame of its central square, 0..1 from the top left."""
        left, top = (self.width_px - self.side_px) / 2, (self.height_px - self.side_px) / 2
        return (point[0] - left) / self.side_px, (point[1] - top) / self.side_px


def middle(box: Box) -> Point:
    """The centre of a box."""
    x0, y0, x1, y1 = box
    return (x0 + x1) / 2, (y0 + y1) / 2


def box_of(mask: np.ndarray) -> Box:
    """mask [height, width] bool -> the tightest box around its true pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def painted_over(scene: Scene) -> Image.Image:
    """The scene with every object in the middle colour of its ground, rims included: what a picture without them is."""
    pixels = np.asarray(scene.image).copy()
    there = np.asarray(scene.labels) > 0
    for _ in range(2):
        wide = np.pad(there, 1)
        there = wide[1:-1, 1:-1] | wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]
    pixels[there] = np.median(pixels[~there], axis=0)
    return Image.fromarray(pixels)
