"""One map as a figure for a paper: token, picture with heat, legend with units, caption.

Flow: `Shown` + `Item` -> `stage_marks` (picture, heat, unseen area, brightest patch) + legend + words -> `Drawing`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage

from llava_viewer.export.drawing import DIM, LINE, MM, WARN, Box, Cells, Drawing, Hatch, Mark, Photo, Ramp, Text
from llava_viewer.export.fonts import cut, width, wrap
from llava_viewer.export.shown import Item, Shown
from llava_viewer.look import colormap, wording
from llava_viewer.look.frames import low_share_text
from llava_viewer.look.heatmap import Rect, grid_rect
from llava_viewer.look.photo import MAX_SIDE_PX
from llava_viewer.look.stage import picture_boxes
from llava_viewer.look.units import method_text
from llava_wire.geometry import Geometry
from llava_wire.quantity import ATTENTION

NAME_PT, NOTE_PT, SMALL_PT = 10.0, 7.0, 6.2
_TALLEST = 1.4
"""A picture takes at most this times the figure's width in height."""
_MOST_LINES = 6


def creed(shown: Shown) -> str:
    """What a figure's numbers are and are not."""
    if shown.view.quantity == ATTENTION:
        return "Attention: where the model read from, not why it answered."
    return f"{method_text(shown.view.facts.method, shown.view.quantity).capitalize()}."


@dataclass(frozen=True)
class Frame:
    """Where the picture's coordinates lie on a sheet: original px -> points."""

    left: float
    top: float
    scale: float
    box: Rect

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in points."""
        return (self.box[2] - self.box[0]) * self.scale, (self.box[3] - self.box[1]) * self.scale

    def place(self, rect: Rect) -> tuple[float, float, float, float]:
        """A rectangle x0, y0, x1, y1 in original px as x, y, width, height in points."""
        x0, y0, x1, y1 = rect
        return (
            self.left + (x0 - self.box[0]) * self.scale, self.top + (y0 - self.box[1]) * self.scale,
            (x1 - x0) * self.scale, (y1 - y0) * self.scale,
        )  # fmt: skip


def figure(shown: Shown, item: Item) -> Drawing:
    """The figure of one item, as wide as its look says."""
    look = shown.look
    room = look.width_mm * MM
    facts = f"{wording.percent(item.image_share)} on {item.place} · peak {_times(item)}"
    if not item.unit.is_share:
        facts = f"largest {item.peak_text}"
    facts_width = width(facts, NOTE_PT, fonts=look.fonts)
    name = cut(item.text, NAME_PT, room - facts_width - 8, 600, look.fonts)
    marks: list[Mark] = [
        Text(0, NAME_PT, name, NAME_PT, 600),
        Text(room, NAME_PT, facts, NOTE_PT, colour=DIM, anchor="end"),
    ]
    frame = fit(shown, 0, NAME_PT + 4, room, _TALLEST * room)
    # As many px as a picture of this height can show.
    side_px = max(MAX_SIDE_PX, round(_TALLEST * look.width_mm / 25.4 * look.dpi))
    marks += stage_marks(shown, item, frame, shown.backdrop(side_px))
    top = frame.top + frame.size[1] + 5
    marks += legend(shown, item, 0, top, room)
    top += 21
    for line in warning(item, room, look.fonts):
        top += SMALL_PT * 1.3
        marks.append(Text(0, top, line, SMALL_PT, 600, WARN))
    if look.caption:
        for line in caption(shown, item, room):
            top += SMALL_PT * 1.3
            marks.append(Text(0, top, line, SMALL_PT, colour=DIM))
    title = f"{item.text}: {facts}"
    return Drawing(room, top + 3, tuple(marks), title, f"{shown.record.facts.prompt.text} {creed(shown)}", look.fonts)


def shown_box(shown: Shown) -> Rect:
    """What a figure shows of the picture, original px: all of it and its padding, or what the model saw."""
    boxes = picture_boxes(shown.record.geometry)
    return boxes.grid if shown.look.crop else boxes.box


def fit(shown: Shown, left: float, top: float, room: float, tallest: float) -> Frame:
    """What is shown of the picture as large as a width and a height in points allow, centred in the width."""
    box = shown_box(shown)
    scale = min(room / (box[2] - box[0]), tallest / (box[3] - box[1]))
    return Frame(left + (room - (box[2] - box[0]) * scale) / 2, top, scale, box)


def stage_marks(
    shown: Shown, item: Item, frame: Frame, picture: PillowImage.Image, *, peak: bool = True
) -> list[Mark]:  # fmt: skip
    """Picture (a `Shown.backdrop`), heat, hatched unseen parts and the frame of the brightest patch."""
    geometry = shown.record.geometry
    boxes = picture_boxes(geometry)
    mode, levels = shown.look.mode, item.levels()
    marks: list[Mark] = [Box(*frame.place(frame.box), fill="#e9e6df")]
    if mode != "map" and shown.look.crop:
        marks.append(Photo(*frame.place(boxes.seen), _seen(picture, boxes.seen, geometry)))
    elif mode != "map":
        marks.append(Photo(*frame.place((0, 0, geometry.width_px, geometry.height_px)), picture))
    marks.append(Cells(*frame.place(grid_rect(geometry)), _colours(shown, item, levels)))
    marks += [Hatch(*frame.place(rect)) for rect in boxes.unseen if not shown.look.crop]
    if peak and item.peak > 0:
        row, col = item.unit.brightest(item.heat)
        x0, y0, x1, y1 = geometry.patch_rects()[row, col].tolist()
        place = frame.place((x0, y0, x1, y1))
        marks += [Box(*place, stroke="#000000", stroke_width=1.6), Box(*place, stroke="#ffffff", stroke_width=0.8)]
    return marks


def _seen(picture: PillowImage.Image, seen: Rect, geometry: Geometry) -> PillowImage.Image:
    """The seen part of a picture of any size."""
    x, y = picture.width / geometry.width_px, picture.height / geometry.height_px
    box = (seen[0] * x, seen[1] * y, seen[2] * x, seen[3] * y)
    size = max(1, round(box[2] - box[0])), max(1, round(box[3] - box[1]))
    return picture.resize(size, PillowImage.Resampling.BICUBIC, box=box)


def legend(shown: Shown, item: Item, left: float, top: float, room: float) -> list[Mark]:
    """The ramp with zero, the maximum, the mark of an even spread, and the unit; 20 points high."""
    colours = colormap.stops(item.unit.palette(shown.look.palette))
    if _is_dark(shown, item):
        colours = np.linspace(0.05, 0.8, 2)[:, None].repeat(3, 1)
    least, most = item.unit.ends(item.maximum)
    marks: list[Mark] = [
        Ramp(left, top, room, 5, colours),
        Box(left, top, room, 5, stroke=LINE, stroke_width=0.4),
        Text(left, top + 12, least, NOTE_PT),
        Text(left + room, top + 12, most, NOTE_PT, 600, anchor="end"),
    ]
    if item.unit.signed:
        marks.append(Text(left + room / 2, top + 12, "0", NOTE_PT, anchor="middle"))
    if item.unit.is_share and item.maximum > 0 and item.uniform <= item.maximum:
        x = left + room * item.uniform / item.maximum
        marks += [
            Box(x - 0.9, top - 1, 1.8, 7, fill="#000000"),
            Box(x - 0.4, top - 0.6, 0.8, 6.2, fill="#ffffff"),
        ]
        even = f"even spread {wording.percent(item.uniform)}"
        half = width(even, SMALL_PT, fonts=shown.look.fonts) / 2
        free = room - width(most, NOTE_PT, 600, shown.look.fonts) - 5
        centre = min(max(x - left, half + 8), free - half)
        marks.append(Text(left + centre, top + 12, even, SMALL_PT, colour=DIM, anchor="middle"))
    scale = ", one scale for all tokens" if shown.look.scale == "shared" else ""
    marks.append(Text(left, top + 19.5, item.unit.per_patch + scale, SMALL_PT, colour=DIM))
    return marks


def warning(item: Item, room: float, fonts: tuple[str, ...]) -> list[str]:
    """What must stand beside a map that is nearly no evidence, with and without caption."""
    text = low_share_text(item.image_share, item.place) if item.unit.is_share else ""
    if not text:
        return []
    return wrap(text, SMALL_PT * 1.06, room, 2, fonts)  # bold is wider


def caption(shown: Shown, item: Item, room: float) -> list[str]:
    """Question, answer, model, selection, step and the creed, as lines that fit."""
    record = shown.record
    where = f"; {item.row.where}" if item.row else ""
    if item.tokens:
        joined = "at each patch the largest value" if item.how == "max" else "the mean of their maps"
        where = f"; tokens {wording.ranges(item.tokens)}, {joined}"
    texts = (
        f"Asked: {record.facts.prompt.text}",
        f"Answered: {record.answer}",
        f"{record.facts.model.name}, {shown.selection}{where}. {creed(shown)}",
        f"In the report: {shown.state(item)}",
    )
    return [line for text in texts for line in wrap(text, SMALL_PT, room, _MOST_LINES, shown.look.fonts)]


def _is_dark(shown: Shown, item: Item) -> bool:
    """Whether what was not read is dark; in signed maps nothing stands for that, and they stay in their colours."""
    return shown.look.mode == "spotlight" and not item.unit.signed


def _colours(shown: Shown, item: Item, levels: np.ndarray) -> np.ndarray:
    """The cells' colours as [row, col, 4] uint8, in steps of 1/255 of the scale like the stored maps."""
    steps = np.rint(levels * 255) / 255
    if _is_dark(shown, item):
        dark = colormap.alpha(np.ones(1)) - colormap.alpha(steps)
        return np.dstack([np.zeros((*steps.shape, 3), np.uint8), np.rint(dark * 255).astype(np.uint8)])
    opacity = np.ones_like(steps) if shown.look.mode == "map" else item.unit.opacity(steps)
    palette = item.unit.palette(shown.look.palette)
    return np.dstack([colormap.lookup(palette, steps), np.rint(opacity * 255).astype(np.uint8)])


def _times(item: Item) -> str:
    return f"{wording.times(item.peak / item.uniform)} even" if item.uniform > 0 else "–"
