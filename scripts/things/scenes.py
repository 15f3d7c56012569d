"""Draws scenes of one to five everyday things: random numbers -> Layout (what is where) -> Scene (picture and labels).

A unit is what a question can name: one thing, or two or three of a kind side by side. Lengths are in pixels of the
picture; a box is (x0, y0, x1, y1) in pixel *edges*. Things keep to the central square, which is what a centre crop
leaves.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from PIL import Image

from teach.pictures import Box, Framed, Point, box_of, middle
from things.grounds import ground
from things.kinds import COLOURED, COLOURS, KINDS
from things.pictograms import standing

BASE_SIDE_PX = 448
"""Short side of a picture unless told otherwise: twice what the model sees, so that the resize is really used."""

Orientation = Literal["square", "landscape", "portrait"]

_UNIT_COUNTS = (1, 2, 2, 3, 3, 3, 4, 4)
_SHARES_OF_SEVERAL = (0.74, 0.18, 0.08)
_MOST_THINGS = 5
_SIZES = {1: (0.21, 0.42), 2: (0.17, 0.23), 3: (0.145, 0.18)}
"""Longer side of a thing, of the short side of the picture, by how many stand together."""
_LONG_SIDE_EXTRAS = (0.15, 0.3, 0.5)
_SHARE_NOT_SQUARE = 0.3
_SHARE_LANDSCAPE = 0.6
_MARGIN = 0.012
_LEAST_STEP = 0.07
"""Between centres, across, of the short side: left to right must never be a matter of taste."""
_MOST_COVERED = 0.1
"""Of a unit's box by another's."""
_LEAST_SEEN = 0.6
"""Of a thing's pixels, beside what stands before it."""
_CLEAR_RATIO = 1.35
"""Of the larger to the smaller of two units' distances across and down: they stand beside or above each other."""
_NEAR_THE_LINE = (0.15, 0.23)
"""Distances down, around `questions.LINE`, that no two of three units have."""
_TRIES = 50
_SOLID = 100
"""Alpha from which a pixel is the thing's."""


@dataclass(frozen=True)
class Unit:
    """Some things of one kind that stand together.

    Args:
        kind: their word.
        colour: of all of them, or None where the kind has no colours.
        boxes: one for each thing, of the pixels that are seen.
        size: longer side of one thing, of the short side of the picture.
    """

    kind: str
    colour: str | None
    boxes: tuple[Box, ...]
    size: float

    @property
    def count(self) -> int:
        return len(self.boxes)

    @property
    def name(self) -> str:
        """Colour and word, singular."""
        return self.kind if self.colour is None else f"{self.colour} {self.kind}"

    @property
    def box(self) -> Box:
        """Around all of them."""
        x0, y0, x1, y1 = zip(*self.boxes, strict=True)
        return min(x0), min(y0), max(x1), max(y1)

    @property
    def centre(self) -> Point:
        return middle(self.box)


@dataclass(frozen=True)
class Layout(Framed):
    """What is where, with no pixels: all that a question needs. Units run from left to right, each of its own kind."""

    units: tuple[Unit, ...]
    width_px: int
    height_px: int

    @property
    def things(self) -> int:
        """How many things there are in all."""
        return sum(unit.count for unit in self.units)

    def place(self, unit: Unit) -> Point:
        """A unit's centre in the frame of the central square."""
        return self.in_crop(unit.centre)

    def mirrored(self) -> Layout:
        """The layout of the picture mirrored left to right; the order stays left to right."""
        units = [
            replace(
                unit, boxes=tuple((self.width_px - x1, y0, self.width_px - x0, y1) for x0, y0, x1, y1 in unit.boxes)
            )
            for unit in self.units
        ]
        return replace(self, units=tuple(sorted(units, key=lambda unit: unit.centre)))


@dataclass(frozen=True)
class Scene:
    """A picture (RGB), its layout, and labels [height, width] uint8: 0 for ground, 1 + i for a pixel of unit i."""

    image: Image.Image
    layout: Layout
    labels: np.ndarray


@dataclass(frozen=True)
class _Planned:
    """A unit before it is drawn, in units of the short side: the middles of its things and half its extent."""

    kind: str
    colour: str | None
    size: float
    middles: tuple[Point, ...]
    centre: Point
    half: Point


def make_scene(rng: random.Random, orientation: Orientation | None = None, side_px: int = BASE_SIDE_PX) -> Scene:
    """Draws one scene.

    Args:
        rng: the same numbers give the same scene; `side_px` only scales it.
        orientation: of the picture; None leaves it to chance.
        side_px: the short side.
    """
    if orientation is None:
        orientation = "square"
        if rng.random() < _SHARE_NOT_SQUARE:
            orientation = "landscape" if rng.random() < _SHARE_LANDSCAPE else "portrait"
    extra_px = 0 if orientation == "square" else round(rng.choice(_LONG_SIDE_EXTRAS) * side_px / 2) * 2
    width_px = side_px + (extra_px if orientation == "landscape" else 0)
    height_px = side_px + (extra_px if orientation == "portrait" else 0)
    while True:
        scene = _drawn(rng, _planned(rng), width_px, height_px)
        if scene is not None:
            return scene


def plan_layout(rng: random.Random) -> Layout:
    """What a scene could show, with no picture behind it, of side 1: for words, not for maps."""
    units = []
    for one in sorted(_planned(rng), key=lambda unit: unit.centre):
        half = one.size / 2
        boxes = tuple((x - half, y - half, x + half, y + half) for x, y in one.middles)
        units.append(Unit(one.kind, one.colour, boxes, one.size))
    return Layout(tuple(units), 1, 1)


def _planned(rng: random.Random) -> list[_Planned]:
    """Units of different kinds that stand apart."""
    count = rng.choice(_UNIT_COUNTS)
    while True:
        planned: list[_Planned] = []
        for kind in rng.sample(KINDS, count):
            colour = rng.choice([*COLOURS]) if kind in COLOURED else None
            room = _MOST_THINGS - sum(len(one.middles) for one in planned) - (count - 1 - len(planned))
            several = min(room, 1 + rng.choices((0, 1, 2), _SHARES_OF_SEVERAL)[0])
            unit = _with_room(rng, kind, colour, several, planned)
            if unit is None:
                break
            planned.append(unit)
        if len(planned) == count and _clear(planned):
            return planned


def _clear(planned: list[_Planned]) -> bool:
    """Whether two or three units stand so that nobody would differ on what is left of, above or below what."""
    pairs = [(one.centre, other.centre) for index, one in enumerate(planned) for other in planned[:index]]
    gaps = [(abs(one[0] - other[0]), abs(one[1] - other[1])) for one, other in pairs]
    if len(planned) == 2:
        return all(max(gap) > _CLEAR_RATIO * min(gap) for gap in gaps)
    if len(planned) == 3:
        beside_line = any(_NEAR_THE_LINE[0] < gap[1] < _NEAR_THE_LINE[1] for gap in gaps)
        return not beside_line and all(max(gap) > _CLEAR_RATIO * min(gap) for gap in gaps)
    return True


def _with_room(
    rng: random.Random, kind: str, colour: str | None, several: int, others: list[_Planned]
) -> _Planned | None:
    for _ in range(_TRIES):
        size = rng.uniform(*_SIZES[several])
        step = size * 1.02
        spread = [((index - (several - 1) / 2) * step, rng.uniform(-0.2, 0.2) * size) for index in range(several)]
        half = (several * step / 2, size / 2 * (1.3 if several > 1 else 1))
        if max(half) > 0.5 - _MARGIN:
            continue
        centre = tuple(rng.uniform(reach + _MARGIN, 1 - reach - _MARGIN) for reach in half)
        x, y = centre
        middles = tuple((x + dx, y + dy if several > 1 else y) for dx, dy in spread)
        unit = _Planned(kind, colour, size, middles, (x, y), half)
        if all(_apart(unit, other) for other in others):
            return unit
    return None


def _apart(one: _Planned, other: _Planned) -> bool:
    across, down = abs(one.centre[0] - other.centre[0]), abs(one.centre[1] - other.centre[1])
    common = max(0.0, one.half[0] + other.half[0] - across) * max(0.0, one.half[1] + other.half[1] - down)
    smaller = min(4 * one.half[0] * one.half[1], 4 * other.half[0] * other.half[1])
    return across > _LEAST_STEP and common <= _MOST_COVERED * smaller


def _drawn(rng: random.Random, planned: list[_Planned], width_px: int, height_px: int) -> Scene | None:
    """The picture, or None where one thing hides too much of another, or the order from left to right changed."""
    side_px = min(width_px, height_px)
    left, top = (width_px - side_px) // 2, (height_px - side_px) // 2
    image = ground(rng, width_px, height_px)
    marks = np.zeros((height_px, width_px), np.uint8)
    drawn: list[tuple[int, int]] = []
    """Of each thing: its unit, and how many pixels it has."""
    order = sorted(range(len(planned)), key=lambda index: planned[index].centre)
    for number, index in enumerate(order):
        one, mirrored = planned[index], rng.random() < 0.5
        for x, y in one.middles:
            picture = standing(one.kind, one.colour, one.size * side_px, rng.uniform(-14, 14), mirrored)
            at = (round(left + x * side_px - picture.width / 2), round(top + y * side_px - picture.height / 2))
            image.paste(picture, at, picture)
            solid = np.zeros(marks.shape, bool)
            _put(solid, np.asarray(picture.getchannel("A")) >= _SOLID, at)
            drawn.append((number, int(solid.sum())))
            marks[solid] = len(drawn)
    boxes: list[list[Box]] = [[] for _ in order]
    for mark, (number, count) in enumerate(drawn, start=1):
        mask = marks == mark
        if mask.sum() < _LEAST_SEEN * count:
            return None
        boxes[number].append(box_of(mask))
    units = [
        Unit(planned[index].kind, planned[index].colour, tuple(sorted(boxes[number])), planned[index].size)
        for number, index in enumerate(order)
    ]
    centres = [unit.centre[0] for unit in units]
    if any(after - before < _LEAST_STEP / 2 * side_px for before, after in pairwise(centres)):
        return None
    numbers = np.array([0, *(1 + number for number, _ in drawn)], np.uint8)
    return Scene(image, Layout(tuple(units), width_px, height_px), numbers[marks])


def _put(target: np.ndarray, piece: np.ndarray, at: tuple[int, int]) -> None:
    """Lays a piece [rows, columns] bool over a larger one; what lies outside is cut off."""
    x, y = at
    x0, y0 = max(0, x), max(0, y)
    x1, y1 = min(target.shape[1], x + piece.shape[1]), min(target.shape[0], y + piece.shape[0])
    target[y0:y1, x0:x1] = piece[y0 - y : y1 - y, x0 - x : x1 - x]
