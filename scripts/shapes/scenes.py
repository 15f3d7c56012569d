"""Draws scenes of two to four coloured shapes: random numbers -> Layout (what is where) -> Scene (picture and labels).

Lengths are in pixels of the original picture; a box is (x0, y0, x1, y1) in pixel *edges*, so that a box which holds
pixel columns 3..5 has x0 = 3 and x1 = 6. Objects keep to the central square, which is what a centre crop leaves.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from teach.pictures import Box, Framed, Point, box_of, middle

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "green": (44, 150, 62),
    "blue": (40, 84, 206),
    "yellow": (240, 200, 30),
    "purple": (136, 52, 168),
    "orange": (242, 128, 26),
}
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "cross")
KINDS_OF_OBJECT: tuple[tuple[str, str], ...] = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)

BASE_SIDE_PX = 192
"""Short side of a picture unless told otherwise: twice what the model sees, so that the resize is really used."""

Orientation = Literal["square", "landscape", "portrait"]

_OBJECT_COUNTS = (2, 3, 3, 4)
_LONG_SIDE_EXTRAS = (16, 32, 64, 96)  # of 192: even after halving, so that a centre crop falls on whole pixels
_SHARE_NOT_SQUARE = 0.25
_SHARE_LANDSCAPE = 0.6
_RADIUS = (0.105, 0.175)  # of the short side
_LEAST_STEP = 0.06  # of the short side: left to right must never be a matter of taste
_LEAST_GAP = 4 / 192
_MARGIN = 2 / 192
_PLACING_TRIES = 60


@dataclass(frozen=True)
class SceneObject:
    """One drawn shape; `box` holds every one of its pixels and no empty row or column at its rim."""

    colour: str
    shape: str
    box: Box

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def centre(self) -> Point:
        return middle(self.box)


@dataclass(frozen=True)
class Layout(Framed):
    """What is where, with no pixels: all that a question needs. Objects run from left to right."""

    objects: tuple[SceneObject, ...]
    width_px: int
    height_px: int

    def flipped(self, *, horizontally: bool, vertically: bool) -> "Layout":
        """The layout of the mirrored picture; the order stays left to right."""

        def mirror(box: Box) -> Box:
            x0, y0, x1, y1 = box
            if horizontally:
                x0, x1 = self.width_px - x1, self.width_px - x0
            if vertically:
                y0, y1 = self.height_px - y1, self.height_px - y0
            return x0, y0, x1, y1

        objects = (SceneObject(thing.colour, thing.shape, mirror(thing.box)) for thing in self.objects)
        return Layout(tuple(sorted(objects, key=lambda thing: thing.centre)), self.width_px, self.height_px)


@dataclass(frozen=True)
class Scene:
    """A picture (RGB), its layout, and labels [height, width] uint8: 0 for ground, 1 + i for a pixel of object i."""

    image: Image.Image
    layout: Layout
    labels: np.ndarray

    @property
    def objects(self) -> tuple[SceneObject, ...]:
        return self.layout.objects


@dataclass(frozen=True)
class _Placed:
    colour: str
    shape: str
    x: float
    y: float
    radius: float


def make_scene(rng: random.Random, orientation: Orientation | None = None, side_px: int = BASE_SIDE_PX) -> Scene:
    """Draw one scene. `orientation` None leaves it to chance; `side_px` only scales (same seed, same scene)."""
    if orientation is None:
        orientation = "square"
        if rng.random() < _SHARE_NOT_SQUARE:
            orientation = "landscape" if rng.random() < _SHARE_LANDSCAPE else "portrait"
    extra_px = 0 if orientation == "square" else round(rng.choice(_LONG_SIDE_EXTRAS) * side_px / BASE_SIDE_PX)
    width_px = side_px + (extra_px if orientation == "landscape" else 0)
    height_px = side_px + (extra_px if orientation == "portrait" else 0)
    left, top = (width_px - side_px) // 2, (height_px - side_px) // 2

    placed = sorted(_place_objects(rng), key=lambda thing: thing.x)
    image = _background(rng, width_px, height_px)
    labels = Image.new("L", (width_px, height_px), 0)
    for index, thing in enumerate(placed):
        centre = (left + thing.x * side_px, top + thing.y * side_px)
        fill, turn = _jittered(rng, COLOURS[thing.colour]), rng.uniform(-0.6, 0.6)
        _draw(ImageDraw.Draw(image), thing.shape, centre, thing.radius * side_px, turn, fill)
        _draw(ImageDraw.Draw(labels), thing.shape, centre, thing.radius * side_px, turn, index + 1)
    return _finished(image, np.asarray(labels), placed)


def _finished(image: Image.Image, labels: np.ndarray, placed: list[_Placed]) -> Scene:
    """Boxes come from the drawn pixels, and the order from the boxes: a triangle's box is not centred on its middle."""
    objects = [
        SceneObject(thing.colour, thing.shape, box_of(labels == index + 1)) for index, thing in enumerate(placed)
    ]
    order = sorted(range(len(objects)), key=lambda index: objects[index].centre)
    renumbered = np.zeros(len(objects) + 1, np.uint8)
    for new, old in enumerate(order):
        renumbered[old + 1] = new + 1
    layout = Layout(tuple(objects[index] for index in order), image.width, image.height)
    return Scene(image, layout, renumbered[labels])


def _place_objects(rng: random.Random) -> list[_Placed]:
    """Distinct objects that neither touch nor stand above each other, in units of the short side."""
    count = rng.choice(_OBJECT_COUNTS)
    while True:
        placed: list[_Placed] = []
        for colour, shape in rng.sample(KINDS_OF_OBJECT, count):
            thing = _find_room(rng, colour, shape, placed)
            if thing is None:
                break
            placed.append(thing)
        if len(placed) == count:
            return placed


def _find_room(rng: random.Random, colour: str, shape: str, placed: list[_Placed]) -> _Placed | None:
    for _ in range(_PLACING_TRIES):
        radius = rng.uniform(*_RADIUS)
        least, most = radius + _MARGIN, 1 - radius - _MARGIN
        thing = _Placed(colour, shape, rng.uniform(least, most), rng.uniform(least, most), radius)
        if all(_apart(thing, other) for other in placed):
            return thing
    return None


def _apart(one: _Placed, other: _Placed) -> bool:
    across, down = abs(one.x - other.x), abs(one.y - other.y)
    reach = one.radius + other.radius + _LEAST_GAP
    return across > _LEAST_STEP and (across > reach or down > reach)


def _background(rng: random.Random, width_px: int, height_px: int) -> Image.Image:
    """Light, softly mottled ground with a little grain, made at the base size and scaled."""
    base = np.array([rng.uniform(196, 246) for _ in range(3)])
    base = 0.6 * base.mean() + 0.4 * base  # nearly grey: saturated ground would pass for an object
    noise = np.random.default_rng(rng.getrandbits(32))
    scale = BASE_SIDE_PX / min(width_px, height_px)
    size = (round(width_px * scale), round(height_px * scale))
    mottle = (noise.normal(0, 7, (6, 8, 1)) + noise.normal(0, 3, (6, 8, 3))).astype(np.float32)
    bands = [Image.fromarray(mottle[..., band]).resize(size, Image.Resampling.BICUBIC) for band in range(3)]
    grain = noise.normal(0, 5, (size[1], size[0], 1)).astype(np.float32)
    pixels = base + np.stack([np.asarray(band) for band in bands], -1) + grain
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return picture if picture.size == (width_px, height_px) else picture.resize((width_px, height_px))


def _jittered(rng: random.Random, colour: tuple[int, int, int]) -> tuple[int, int, int]:
    lighter = rng.uniform(-14, 14)
    red, green, blue = (int(min(255, max(0, band + lighter + rng.uniform(-7, 7)))) for band in colour)
    return red, green, blue


def _draw(
    canvas: ImageDraw.ImageDraw, shape: str, centre: Point, radius: float, turn: float, fill: int | tuple[int, int, int]
) -> None:
    x, y = centre
    if shape == "circle":
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
        return
    corners, freedom = _OUTLINES[shape]()
    cosine, sine = math.cos(turn * freedom), math.sin(turn * freedom)
    canvas.polygon(
        [(x + radius * (cosine * u - sine * v), y + radius * (sine * u + cosine * v)) for u, v in corners], fill=fill
    )


def _square() -> tuple[list[Point], float]:
    return [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)], 0.35


def _triangle() -> tuple[list[Point], float]:
    return [(math.sin(angle), -math.cos(angle)) for angle in (0, 2 * math.pi / 3, 4 * math.pi / 3)], 1.0


def _star() -> tuple[list[Point], float]:
    reach = [1.0 if corner % 2 == 0 else 0.45 for corner in range(10)]
    return [(far * math.sin(k * math.pi / 5), -far * math.cos(k * math.pi / 5)) for k, far in enumerate(reach)], 1.0


def _cross() -> tuple[list[Point], float]:
    arm, half = 0.95, 0.34
    quarter = [(half, -arm), (half, -half), (arm, -half)]
    corners = [quarter]
    for _ in range(3):
        corners.append([(-v, u) for u, v in corners[-1]])
    return [corner for part in corners for corner in part], 0.35


# Corners in units of the radius, and how much of the random turn the shape takes: a square on its tip is a diamond.
_OUTLINES: dict[str, Callable[[], tuple[list[Point], float]]] = {
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
}
