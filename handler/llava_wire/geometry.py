"""Where each patch of the model's input lies on the original image, from the processor's own integers.

Flow: original size + the processor's settings -> a list of pad, resize, crop and trim steps -> one rectangle per patch.
Sizes and offsets are integers, exactly as the image processor computes them; rectangles are exact rationals that
become float64 only at the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from llava_wire.grids import Grid, Run, Step
from llava_wire.schema import Image

Rect = tuple[float, float, float, float]


@dataclass(frozen=True)
class Preprocess:
    """The settings of an image processor that move pixels, in the order they apply.

    Args:
        pad_to_square: the picture is first centred on a square of its longer side.
        shortest_edge: resize so that the shorter side has this length in px (the longer side is truncated), or
        exact_size: resize to (height, width) in px, or neither.
        crop: centre crop to (height, width) in px, or None.
        patch_px: side of a patch in px of the processed picture.
    """

    patch_px: int
    pad_to_square: bool = False
    shortest_edge: int | None = None
    exact_size: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None

    def plan(self, width_px: int, height_px: int) -> Geometry:
        """The steps for one picture of this size (after EXIF rotation) and the patch grid that results."""
        steps: list[Step] = []
        width, height = width_px, height_px
        if self.pad_to_square and width != height:
            side = max(width, height)
            steps.append(Step("pad", side, side, (side - width) // 2, (side - height) // 2))
            width = height = side
        if self.shortest_edge is not None:
            width, height = _shortest_edge_size(width, height, self.shortest_edge)
            steps.append(Step("resize", width, height))
        elif self.exact_size is not None:
            height, width = self.exact_size
            steps.append(Step("resize", width, height))
        if self.crop is not None:
            crop_height, crop_width = self.crop
            left, top = _centre_crop_offset(width, height, crop_width, crop_height)
            steps.append(Step("crop", crop_width, crop_height, left, top))
            width, height = crop_width, crop_height
        return Geometry(
            width_px, height_px, tuple(steps), self.patch_px, height // self.patch_px, width // self.patch_px
        )


@dataclass(frozen=True)
class Geometry:
    """The way from the original picture to the patch grid, invertible to a rectangle per patch.

    Args:
        width_px, height_px: the original picture after EXIF rotation.
        steps: what the processor did, in order.
        patch_px: side of a patch in processed px.
        rows, cols: the patch grid.
    """

    width_px: int
    height_px: int
    steps: tuple[Step, ...]
    patch_px: int
    rows: int
    cols: int

    def patch_rects(self) -> npt.NDArray[np.float64]:
        """The rectangle of each patch in original px, [rows, cols, 4] as x0, y0, x1, y1.

        A rectangle may reach outside the picture where the processor padded it. Patches of one row touch, but for those
        at the end of a trimmed tile.
        """
        (left, right), (top, bottom) = self._spans(0, range(self.cols)), self._spans(1, range(self.rows))
        rects = np.empty((self.rows, self.cols, 4), dtype=np.float64)  # [row, col, (x0, y0, x1, y1)]
        rects[..., 0] = np.asarray(left)[None, :]
        rects[..., 1] = np.asarray(top)[:, None]
        rects[..., 2] = np.asarray(right)[None, :]
        rects[..., 3] = np.asarray(bottom)[:, None]
        return rects

    def seen_rect(self) -> Rect:
        """The part of the original picture that some patch covers, in original px as x0, y0, x1, y1."""
        (x0, x1), (y0, y1) = self._ends(0, self.cols), self._ends(1, self.rows)
        return max(0.0, x0), max(0.0, y0), min(float(self.width_px), x1), min(float(self.height_px), y1)

    def _ends(self, axis: int, count: int) -> tuple[float, float]:
        """Where `count` patches begin and end along an axis (0 = x, 1 = y), original px."""
        starts, ends = self._spans(axis, (0, count - 1))
        return starts[0], ends[-1]

    def _spans(self, axis: int, patches: Iterable[int]) -> tuple[list[float], list[float]]:
        """Where these patches of an axis begin, and where they end, original px: exact rationals, each rounded once."""
        trims = [number for number, step in enumerate(self.steps) if step.op == "trim" and _offset(step, axis)]
        last = trims[0] + 1 if trims else 0
        scale, offset = self._taken_back(axis, last, len(self.steps))
        below = scale.denominator * offset.denominator
        step, first = scale.numerator * self.patch_px * offset.denominator, offset.numerator * scale.denominator
        begins = [step * number + first for number in patches]
        pairs = [(one, one + step) for one in begins]
        if trims:
            tiles, after, gap = self._tiles(axis, trims[0])
            # In px of the trimmed picture a value is value / below, and a tile is after / tiles: floor and ceiling.
            pairs = [
                (
                    start + start * tiles // (below * after) * gap * below,
                    end + (-(-end * tiles // (below * after)) - 1) * gap * below,
                )
                for start, end in pairs
            ]
            scale, offset = self._taken_back(axis, 0, trims[0])
            times, more = scale.numerator * offset.denominator, offset.numerator * scale.denominator * below
            below *= scale.denominator * offset.denominator
            pairs = [(start * times + more, end * times + more) for start, end in pairs]
        # The quotient of two whole numbers is rounded once, as that of a Fraction is, and needs no common divisor.
        return [start / below for start, _ in pairs], [end / below for _, end in pairs]

    def _sizes(self, axis: int) -> list[int]:
        """The length of an axis before the first step and after each."""
        return [(self.width_px, self.height_px)[axis], *((step.width_px, step.height_px)[axis] for step in self.steps)]

    def _tiles(self, axis: int, number: int) -> tuple[int, int, int]:
        """Tiles of a trim along an axis, px of all of them afterwards, px that each loses."""
        before, after = self._sizes(axis)[number : number + 2]
        gap = _offset(self.steps[number], axis)
        return (before - after) // gap, after, gap

    def _taken_back(self, axis: int, first: int, last: int) -> tuple[Fraction, Fraction]:
        """The steps `first` to `last` of an axis taken back, as (scale, offset): px before = scale * px after + offset.

        None of them trims the axis.
        """
        sizes = self._sizes(axis)
        scale, offset = Fraction(1), Fraction(0)
        for number in range(last, first, -1):
            step = self.steps[number - 1]
            if step.op == "resize":
                factor = Fraction(sizes[number - 1], sizes[number])
                scale, offset = scale * factor, offset * factor
            elif step.op == "crop":
                offset += _offset(step, axis)
            elif step.op == "pad":
                offset -= _offset(step, axis)
        return scale, offset

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, for people."""
        return {
            "steps": [
                {"op": s.op, "width_px": s.width_px, "height_px": s.height_px, "left_px": s.left_px, "top_px": s.top_px}
                for s in self.steps
            ],
            "patch_px": self.patch_px,
            "rows": self.rows,
            "cols": self.cols,
        }

    @classmethod
    def of(cls, image: Image, grid: Grid) -> Geometry:
        """The way from a picture to one of its grids."""
        return cls(image.width_px, image.height_px, grid.steps, grid.patch_px, grid.rows, grid.cols)

    def grid(self, positions: tuple[Run, ...], name: str = "base", image: int = 0) -> Grid:
        """The grid of a record that this way leads to; the arguments as in `Grid`."""
        return Grid(image, name, self.rows, self.cols, self.patch_px, self.steps, positions)


def _offset(step: Step, axis: int) -> int:
    """What a step says of an axis (0 = x, 1 = y) beside its size, px."""
    return step.left_px if axis == 0 else step.top_px


def _shortest_edge_size(width_px: int, height_px: int, edge_px: int) -> tuple[int, int]:
    """(width, height) in px after a shortest-edge resize; the longer side is truncated, as the processor does it."""
    short, long = min(width_px, height_px), max(width_px, height_px)
    # Float division and int() on purpose: the processor computes int(edge * long / short) and so must we.
    new_long = int(edge_px * long / short)
    return (edge_px, new_long) if width_px <= height_px else (new_long, edge_px)


def _centre_crop_offset(width_px: int, height_px: int, crop_width_px: int, crop_height_px: int) -> tuple[int, int]:
    """(left, top) in px of a centre crop; negative where the picture is smaller than the crop."""
    top, left = (height_px - crop_height_px) // 2, (width_px - crop_width_px) // 2
    if left >= 0 and top >= 0:
        return left, top
    # The processor pads to the larger of both sizes, rounding the pad before the picture up, then crops with floor.
    padded_width, padded_height = max(crop_width_px, width_px), max(crop_height_px, height_px)
    pad_left, pad_top = -((width_px - padded_width) // 2), -((height_px - padded_height) // 2)
    return max(0, left + pad_left) - pad_left, max(0, top + pad_top) - pad_top
