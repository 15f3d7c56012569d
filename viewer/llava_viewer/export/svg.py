"""Drawings as SVG: `Drawing` -> text that needs nothing else: colours baked in, no style sheet, no script, no link.

Patches are vector paths, one per colour, so that they stay sharp in print; the photograph is the only pixel image.
"""

from __future__ import annotations

import io
from collections import defaultdict
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from llava_viewer.export.drawing import MARGIN, Box, Cells, Drawing, Hatch, Photo, Ramp, Text
from llava_viewer.export.fonts import width
from llava_viewer.files import SVG_MARK, written
from llava_viewer.look.heatmap import data_uri
from llava_viewer.look.photo import shrink
from llava_viewer.look.text import direction, visible

_FAMILY = "'Source Sans 3', 'Source Sans Pro', 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif"
"""In quotes: a bare name with a word that begins with a digit makes readers drop the list and take a serif font."""
_PHOTO_SIDE_PX = 1600
_NOT_XML = {0xFFFE: "\ufffd", 0xFFFF: "\ufffd"}


def svg_text(drawing: Drawing) -> str:
    """The drawing as a whole SVG file."""
    wide, high = (_number(side + 2 * MARGIN) for side in (drawing.width, drawing.height))
    photos = list({id(mark.pixels): mark.pixels for mark in drawing.marks if isinstance(mark, Photo)}.values())
    ramps = [mark for mark in drawing.marks if isinstance(mark, Ramp)]
    hatched = any(isinstance(mark, Hatch) for mark in drawing.marks)
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}pt" height="{high}pt" '
            f'viewBox="-{_number(MARGIN)} -{_number(MARGIN)} {wide} {high}" role="img" font-family="{_FAMILY}">'
        ),
        SVG_MARK,
        f"<title>{_words(drawing.title)}</title>",
        f"<desc>{_words(drawing.description)}</desc>",
        "<defs>",
        *(_gradient(number, ramp) for number, ramp in enumerate(ramps)),
        *([_PATTERN] if hatched else []),
        *(_photo(number, pixels) for number, pixels in enumerate(photos)),
        "</defs>",
        f'<rect x="-{_number(MARGIN)}" y="-{_number(MARGIN)}" width="{wide}" height="{high}" fill="#fff"/>',
    ]
    for mark in drawing.marks:
        shared = photos if isinstance(mark, Photo) else ramps
        number = next((i for i, one in enumerate(shared) if one is mark or one is getattr(mark, "pixels", None)), 0)
        lines.append(_text(mark, drawing.fonts) if isinstance(mark, Text) else _mark(mark, number))
    return "\n".join([*lines, "</svg>"]) + "\n"


def write_svg(drawing: Drawing, path: Path) -> None:
    """Writes the drawing as an SVG file."""
    text = svg_text(drawing)
    with written(path, through_links=False) as partial:
        partial.write_text(text, encoding="utf-8")


_PATTERN = (
    '<pattern id="hatch" width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="4" height="4" fill="#585c64" fill-opacity=".65"/>'
    '<rect width=".8" height="4" fill="#fff" fill-opacity=".35"/></pattern>'
)


def _text(mark: Text, fonts: tuple[str, ...]) -> str:
    """A line of text that is as wide as it was measured, whatever font the reader has."""
    anchor = "" if mark.anchor == "start" else f' text-anchor="{mark.anchor}"'
    weight = "" if mark.weight == 400 else f' font-weight="{mark.weight}"'
    right_to_left = direction(mark.text) == "rtl"
    if right_to_left and mark.anchor != "middle":
        # Where text runs right to left, "start" is the right end.
        anchor = ' text-anchor="end"' if mark.anchor == "start" else ""
    flip = ' direction="rtl"' if right_to_left else ""
    wide = width(mark.text, mark.size, mark.weight, fonts)
    return (
        f'<text x="{_number(mark.x)}" y="{_number(mark.y)}" font-size="{_number(mark.size)}"{weight} '
        f'fill="{mark.colour}"{anchor}{flip} textLength="{_number(wide)}" lengthAdjust="spacingAndGlyphs">'
        f"{_words(mark.text)}</text>"
    )


def _mark(mark: Box | Ramp | Photo | Cells | Hatch, number: int) -> str:
    if isinstance(mark, Cells):
        return _cells(mark)
    if isinstance(mark, Photo):
        place = f"translate({_number(mark.x)} {_number(mark.y)}) scale({mark.width:.6g} {mark.height:.6g})"
        return f'<use href="#photo{number}" transform="{place}"/>'
    place = _place(mark)
    if isinstance(mark, Ramp):
        return f'<rect {place} fill="url(#ramp{number})"/>'
    if isinstance(mark, Hatch):
        return f'<rect {place} fill="url(#hatch)"/>'
    return _box(mark, place)


def _box(mark: Box, place: str) -> str:
    fill = f' fill="{mark.fill}"' if mark.fill else ' fill="none"'
    stroke = f' stroke="{mark.stroke}" stroke-width="{_number(mark.stroke_width)}"' if mark.stroke else ""
    return f"<rect {place}{fill}{stroke}/>"


def _cells(mark: Cells) -> str:
    """One path per colour, in units of cells; clear cells are left out."""
    rows, cols = mark.rgba.shape[:2]
    by_colour: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for row, col in np.ndindex(rows, cols):
        colour = tuple(int(v) for v in mark.rgba[row, col])
        if colour[3]:
            by_colour[colour].append(f"M{col} {row}h1v1h-1z")
    place = f"translate({_number(mark.x)} {_number(mark.y)}) scale({mark.width / cols:.6g} {mark.height / rows:.6g})"
    paths = [
        f'<path fill="#{bytes(colour[:3]).hex()}"{_opacity(colour[3])} d="{"".join(parts)}"/>'
        for colour, parts in sorted(by_colour.items(), key=lambda pair: pair[0][3])
    ]
    # Without it thin light lines show between neighbouring cells.
    return "\n".join([f'<g transform="{place}" shape-rendering="crispEdges">', *paths, "</g>"])


def _opacity(alpha: int) -> str:
    return "" if alpha == 255 else f' fill-opacity="{alpha / 255:.3f}"'


def _gradient(number: int, ramp: Ramp) -> str:
    last = len(ramp.colours) - 1
    stops = "".join(
        f'<stop offset="{100 * i / last:.1f}%" stop-color="{_hex(colour)}"/>' for i, colour in enumerate(ramp.colours)
    )
    return f'<linearGradient id="ramp{number}">{stops}</linearGradient>'


def _photo(number: int, pixels: PillowImage.Image) -> str:
    """A picture of one by one, for marks to place: a sheet with many of them holds its bytes once."""
    buffer = io.BytesIO()
    shrink(pixels, _PHOTO_SIDE_PX).save(buffer, "JPEG", quality=90, subsampling=0)
    uri = data_uri(buffer.getvalue(), "image/jpeg")
    return f'<image id="photo{number}" width="1" height="1" preserveAspectRatio="none" href="{uri}"/>'


def _place(mark: Box | Ramp | Hatch) -> str:
    parts = {"x": mark.x, "y": mark.y, "width": mark.width, "height": mark.height}
    return " ".join(f"{name}={quoteattr(_number(value))}" for name, value in parts.items())


def _words(text: str) -> str:
    return escape(visible(text).translate(_NOT_XML))


def _hex(colour: npt.NDArray[np.float64]) -> str:
    return "#" + bytes(np.rint(colour * 255).astype(np.uint8)).hex()


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
