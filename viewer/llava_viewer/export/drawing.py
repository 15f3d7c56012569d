"""A figure before it is a file: marks with places in points (1/72 inch), the same for PNG and SVG.

Flow: `figure` and `sheet` place marks -> `Drawing` -> `raster` paints it, `svg` writes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

MM = 72 / 25.4
"""Points per millimetre."""
MARGIN = 3.0
"""Points of white around a drawing."""
INK, DIM, LINE, WARN = "#1b1e24", "#5a5f6a", "#c9c6bd", "#8a3b12"


@dataclass(frozen=True)
class Text:
    """One line of text; (x, y) is the start, middle or end of its baseline."""

    x: float
    y: float
    text: str
    size: float
    weight: int = 400
    colour: str = INK
    anchor: Literal["start", "middle", "end"] = "start"


@dataclass(frozen=True)
class Box:
    """A rectangle, filled or outlined."""

    x: float
    y: float
    width: float
    height: float
    fill: str = ""
    stroke: str = ""
    stroke_width: float = 0.0


@dataclass(frozen=True)
class Ramp:
    """A rectangle filled from left to right with a palette's colours, [n, 3] float64 in 0..1 at equal steps."""

    x: float
    y: float
    width: float
    height: float
    colours: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Photo:
    """A picture, RGB, stretched to the rectangle."""

    x: float
    y: float
    width: float
    height: float
    pixels: PillowImage.Image


@dataclass(frozen=True)
class Cells:
    """A grid of flat cells, rgba [row, col, 4] uint8; edges stay sharp at every size."""

    x: float
    y: float
    width: float
    height: float
    rgba: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Hatch:
    """A rectangle that the model never saw: darkened, with slanting lines."""

    x: float
    y: float
    width: float
    height: float


Mark = Text | Box | Ramp | Photo | Cells | Hatch


@dataclass(frozen=True)
class Drawing:
    """A white sheet with marks, painted in order.

    Args:
        width, height: what the marks fill, points; `MARGIN` is left free around it.

    `title` and `description` are the words for those who do not see it; `fonts` as in `Look`.
    """

    width: float
    height: float
    marks: tuple[Mark, ...]
    title: str
    description: str
    fonts: tuple[str, ...] = ()
