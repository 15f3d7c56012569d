"""Drawings as pixels: `Drawing` -> Pillow image -> PNG with its resolution written in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from llava_viewer.export.drawing import MARGIN, Box, Cells, Drawing, Hatch, Mark, Photo, Ramp, Text
from llava_viewer.export.fonts import font_for
from llava_viewer.files import PNG_LEVEL, png_mark, written
from llava_viewer.look.heatmap import enlarged
from llava_viewer.look.text import visible

_HATCH_PT = 4.0
_FINER = 4
_UNSEEN = (88, 92, 100)
MAX_PIXELS = 120_000_000


def paint(drawing: Drawing, dpi: int) -> PillowImage.Image:
    """The drawing as an RGB picture.

    Raises:
        ValueError: it would have more than `MAX_PIXELS` pixels.
    """
    scale = dpi / 72
    size = (round((drawing.width + 2 * MARGIN) * scale), round((drawing.height + 2 * MARGIN) * scale))
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"export: got {size[0]} x {size[1]} px, expected {MAX_PIXELS:,} px; lower --dpi or --width-mm")
    canvas = PillowImage.new("RGB", size, "white")
    for mark in drawing.marks:
        _mark(canvas, replace(mark, x=mark.x + MARGIN, y=mark.y + MARGIN), scale, drawing.fonts)
    return canvas


def write_png(drawing: Drawing, path: Path, dpi: int) -> None:
    """Writes the drawing as a PNG that names its dpi, so that it is placed at its size on paper."""
    picture = paint(drawing, dpi)
    with written(path, through_links=False) as partial:
        picture.save(partial, "PNG", dpi=(dpi, dpi), pnginfo=png_mark(), compress_level=PNG_LEVEL)


def _mark(canvas: PillowImage.Image, mark: Mark, scale: float, fonts: tuple[str, ...]) -> None:
    if isinstance(mark, Text):
        _text(canvas, mark, scale, fonts)
        return
    left, top = round(mark.x * scale), round(mark.y * scale)
    right, bottom = round((mark.x + mark.width) * scale), round((mark.y + mark.height) * scale)
    size = (max(1, right - left), max(1, bottom - top))
    if isinstance(mark, Photo):
        canvas.paste(mark.pixels.resize(size, PillowImage.Resampling.LANCZOS), (left, top))
    elif isinstance(mark, Cells):
        layer, corner = enlarged(mark.rgba, (left, top, left + size[0], top + size[1]), canvas.size)
        if 0 not in layer.size:
            canvas.paste(layer, corner, layer.getchannel("A"))
    elif isinstance(mark, Ramp):
        canvas.paste(_ramp(mark, size), (left, top))
    elif isinstance(mark, Hatch):
        _hatch(canvas, (left, top), size, scale)
    else:
        _box(canvas, mark, (left, top, right, bottom), scale)


def _text(canvas: PillowImage.Image, mark: Text, scale: float, fonts: tuple[str, ...]) -> None:
    """A line of text, drawn larger and made smaller: fonts round the places of their letters to whole px."""
    font, drawn = font_for(visible(mark.text), mark.size * scale * _FINER, mark.weight, fonts)
    wide, size = font.getlength(drawn), font.size
    box = (int(wide + size), int(2 * size))
    mask = PillowImage.new("L", (box[0] + -box[0] % _FINER, box[1] + -box[1] % _FINER))
    x, y = mark.x * scale, mark.y * scale
    if mark.anchor != "start":
        x -= wide / _FINER * (1.0 if mark.anchor == "end" else 0.5)
    left, top = int(x - size / 4 / _FINER), int(y - 1.5 * size / _FINER)
    ImageDraw.Draw(mask).text(((x - left) * _FINER, (y - top) * _FINER), drawn, fill=255, font=font, anchor="ls")
    canvas.paste(mark.colour, (left, top), mask.reduce(_FINER))


def _ramp(mark: Ramp, size: tuple[int, int]) -> PillowImage.Image:
    at = np.linspace(0, 1, size[0])
    steps = np.linspace(0, 1, len(mark.colours))
    line = np.stack([np.interp(at, steps, mark.colours[:, channel]) for channel in range(3)], axis=-1)  # [x, 3]
    pixels = np.rint(line * 255).astype(np.uint8)[None]
    return PillowImage.fromarray(np.repeat(pixels, size[1], axis=0))


def _hatch(canvas: PillowImage.Image, corner: tuple[int, int], size: tuple[int, int], scale: float) -> None:
    layer = PillowImage.new("RGB", size, _UNSEEN)
    drawer = ImageDraw.Draw(layer)
    step, thick = max(3.0, _HATCH_PT * scale), max(1, round(scale * 0.7))
    for number in range(int((size[0] + size[1]) / step) + 1):
        x = number * step
        drawer.line((x, 0, x - size[1], size[1]), fill=(150, 154, 162), width=thick)
    canvas.paste(layer, corner, PillowImage.new("L", size, 165))


def _box(canvas: PillowImage.Image, mark: Box, corners: tuple[int, int, int, int], scale: float) -> None:
    drawer = ImageDraw.Draw(canvas)
    left, top, right, bottom = corners
    outline = mark.stroke or None
    thick = max(1, round(mark.stroke_width * scale)) if mark.stroke else 0
    drawer.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), fill=mark.fill or None,
                     outline=outline, width=thick)  # fmt: skip
