"""The stage's frame: geometry -> rectangles in original px -> SVG attributes."""

from __future__ import annotations

from dataclasses import dataclass

from llava_viewer.look import wording
from llava_viewer.look.heatmap import Rect, grid_rect
from llava_viewer.look.view_model import Area, Stage
from llava_wire.geometry import Geometry

_SCREEN_PX = 800


@dataclass(frozen=True)
class Boxes:
    """Rectangles of a geometry, original px.

    Args:
        box: the picture and the padding around it; grid: what all patches cover; seen: their part of the picture.
        unseen: parts of the picture that no patch covers; padding: parts of the grid outside the picture.
    """

    box: Rect
    grid: Rect
    seen: Rect
    unseen: tuple[Rect, ...]
    padding: tuple[Rect, ...]


def picture_boxes(geometry: Geometry) -> Boxes:
    """The rectangles that a stage or a figure of this geometry is made of."""
    grid, seen = grid_rect(geometry), geometry.seen_rect()
    picture: Rect = (0.0, 0.0, float(geometry.width_px), float(geometry.height_px))
    box = (min(0.0, grid[0]), min(0.0, grid[1]), max(picture[2], grid[2]), max(picture[3], grid[3]))
    return Boxes(box, grid, seen, tuple(_around(picture, seen)), tuple(_around(grid, _overlap(grid, picture))))


def build_stage(geometry: Geometry, photo_uri: str, thumb_uri: str) -> Stage:
    """The stage for a record's geometry; an empty photo_uri draws a plain ground."""
    width, height = geometry.width_px, geometry.height_px
    boxes = picture_boxes(geometry)
    grid, seen, box = boxes.grid, boxes.seen, boxes.box
    patch_width, patch_height = (grid[2] - grid[0]) / geometry.cols, (grid[3] - grid[1]) / geometry.rows
    seen_share = max(0.0, seen[2] - seen[0]) * max(0.0, seen[3] - seen[1]) / (width * height)
    number = wording.plain
    return Stage(
        width_px=width,
        height_px=height,
        view_box=" ".join(number(v) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])),
        photo_uri=photo_uri,
        thumb_uri=thumb_uri,
        to_grid=f"translate({number(grid[0])} {number(grid[1])}) scale({patch_width:.6f} {patch_height:.6f})",
        rows=geometry.rows,
        cols=geometry.cols,
        patch=_area((0.0, 0.0, patch_width, patch_height)),
        grid_numbers=" ".join(repr(round(value, 6)) for value in grid),
        unit=number(max(box[2] - box[0], box[3] - box[1]) / _SCREEN_PX),
        seen=_area(seen),
        unseen=tuple(_area(rect) for rect in boxes.unseen),
        padding=tuple(_area(rect) for rect in boxes.padding),
        seen_text=wording.percent(seen_share),
        unseen_text=wording.percent(1 - seen_share) if boxes.unseen else "",
        padding_text="The dotted frame is padding that the model saw around the image." if boxes.padding else "",
        description=f"{width} × {height} px, {geometry.rows} × {geometry.cols} patches",
    )


def _overlap(one: Rect, other: Rect) -> Rect:
    return max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])


def _around(outer: Rect, inner: Rect) -> list[Rect]:
    """The parts of `outer` that `inner` leaves: above, below, left, right. Slivers below half a pixel are dropped."""
    x0, y0, x1, y1 = outer
    left, top, right, bottom = inner
    parts = [(x0, y0, x1, top), (x0, bottom, x1, y1), (x0, top, left, bottom), (right, top, x1, bottom)]
    return [part for part in parts if part[2] - part[0] > 0.5 and part[3] - part[1] > 0.5]


def _area(rect: Rect) -> Area:
    x0, y0, x1, y1 = rect
    return Area(*(wording.plain(value) for value in (x0, y0, max(0.0, x1 - x0), max(0.0, y1 - y0))))
