"""Maps as pictures: attention maps -> 8-bit grey PNGs and atlases for the pages, overlays for files.

A page's grey levels are square-root codes, as in records: the script gets values and sums out of them that are right,
and the style sheet's filter `#square` makes them brightness again.

An atlas holds the maps of single layers and heads as text blocks that the page loads when needed: one zlib stream per
row of the table, maps one after the other, base64; their maxima and shares are one float32 block for the view.
`static/report/data.js` reads them. Maps in blocks stay in blocks (`block_atlas`, `static/report/blocks.js`).

A PNG here is written by hand (one IHDR, one IDAT) because a map of 24 x 24 is smaller than the chunks that an image
library adds, and because the bytes must not change with the library's version.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from llava_viewer.look import colormap
from llava_wire.codes.quantize import quantise
from llava_wire.geometry import Geometry
from llava_wire.view import View

Rect = tuple[float, float, float, float]


@dataclass(frozen=True)
class Block:
    """A piece of packed data that the page's script finds by its id."""

    block_id: str
    text: str


@dataclass(frozen=True)
class Atlas:
    """The maps of single layers and heads of a view: one block with their maxima and shares, then one per row.

    `kept` says how many patches of a map are stored singly, beside sums of blocks; 0 where each patch has its grey.
    """

    blocks: tuple[Block, ...]
    kept: int = 0


def to_grey(maps: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Maps as 8-bit grey, each against its own maximum, coded as `llava_wire.codes.quantize` writes them.

    Args:
        maps: [..., row, col] float32, absolute attention (the sum of a map is its image share).

    Returns:
        grey [..., row, col] uint8 and the maxima [...] float32: value = maximum * (grey / 255)**2.
    """
    shown = np.maximum(maps, np.float32(0))
    grey, _, _ = quantise(shown, "uint8")
    return grey.astype(np.uint8, copy=False), np.asarray(shown.max(axis=(-2, -1), initial=0.0), np.float32)


def coding_error(maps: npt.NDArray[np.float32], grey: npt.NDArray[np.uint8], peaks: npt.NDArray[np.float32]) -> float:
    """The largest error of a value that is read back out of what `to_grey` made of these maps."""
    read = peaks[..., None, None] * (grey / np.float32(255)) ** 2
    return float(np.abs(read - maps).max(initial=0.0))


def build_atlas(
    key: str,
    grey: npt.NDArray[np.uint8],
    peaks: npt.NDArray[np.float32],
    shares: npt.NDArray[np.float32] | None,
    row_keys: Sequence[str],
) -> Atlas:
    """The atlas of one view.

    Args:
        key: the view's key, "v1".
        grey: [row of the table, map, row, col] uint8, the page's grey levels; peaks: [row of the table, map] float32.
        shares: [row of the table, map, name] float32; written as four times 0 where there are none.
        row_keys: the radio button of each row of the table, "" for a map of the whole answer.
    """
    parts = np.zeros((*peaks.shape, 4), np.float32) if shares is None else shares
    numbers = np.concatenate([peaks[..., None], parts], axis=-1).astype("<f4")
    blocks = [
        Block(f"a-{key}-{row_key or 'all'}", packed(grey[number].tobytes())) for number, row_key in enumerate(row_keys)
    ]
    return Atlas((Block(f"n-{key}", packed(numbers.tobytes())), *blocks))


ATLAS_ERROR = 2.0**-15
"""What `block_atlas` may change of a value, as a part of its map's largest."""


def block_atlas(key: str, view: View, shares: npt.NDArray[np.float32], row_keys: Sequence[str]) -> Atlas:
    """The atlas of a view in blocks, on one grid: the codes as they are, the largest patches in 16 bits.

    A row has one array after the other, each of all of its maps: codes of blocks, then of the largest patches, in the
    order of their places, the places and the values as parts of 65535 of the map's largest, low bytes before high ones.
    The block of the view has the largest values and the scales as float32 of 16 bits, the shares as parts of 65535.

    Args:
        key: the view's key, "v1".
        view: stored in blocks.
        shares: [row of the table, map, name] float32.
        row_keys: as for `build_atlas`.
    """
    assert view.kept is not None
    lead, count = shares.shape[:2], view.kept.places.shape[-1]
    codes = view.stored.reshape(*lead, view.stored.shape[-1])
    places, values = view.kept.places.reshape(*lead, count), view.kept.values.reshape(*lead, count)
    peaks = values[..., :1]
    order = np.argsort(places, axis=-1)
    parts = np.rint(values / np.where(peaks > 0, peaks, np.float32(1)) * 65535).astype("<u2")
    pairs = [np.take_along_axis(array, order, axis=-1).astype("<u2") for array in (places, parts)]
    planes = [codes.astype(np.uint8), *(plane for pair in pairs for plane in (pair & 255, pair >> 8))]
    bytes_of_rows = [b"".join(plane[row].astype(np.uint8).tobytes() for plane in planes) for row in range(lead[0])]
    table = (
        _short(peaks).tobytes()
        + _short(view.scales).tobytes()
        + np.rint(np.clip(shares, 0, 1) * 65535).astype("<u2").tobytes()
    )
    rows = [
        Block(f"a-{key}-{row_key or 'all'}", packed(data))
        for row_key, data in zip(row_keys, bytes_of_rows, strict=True)
    ]
    return Atlas((Block(f"n-{key}", packed(table)), *rows), count)


def _short(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """float32 of 16 significant bits, to nearest: its last byte is 0 and packs to nothing."""
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    short: npt.NDArray[np.float32] = ((bits + np.uint32(128)) & np.uint32(0xFFFFFF00)).view("<f4")
    return short


def packed(data: bytes) -> str:
    """Bytes as the page's script unpacks them: a zlib stream in base64."""
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")


def grey_png(grey: npt.NDArray[np.uint8]) -> bytes:
    """grey [row, col] uint8 as an 8-bit greyscale PNG."""
    rows, cols = grey.shape
    return _png(cols, rows, [grey[row].tobytes() for row in range(rows)])


def data_uri(data: bytes, kind: str = "image/png") -> str:
    """Bytes as a data: URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def grid_rect(geometry: Geometry) -> Rect:
    """The rectangle that the whole patch grid covers, original px as x0, y0, x1, y1; may reach outside the picture."""
    rects = geometry.patch_rects()
    return float(rects[0, 0, 0]), float(rects[0, 0, 1]), float(rects[-1, -1, 2]), float(rects[-1, -1, 3])


def overlay(
    picture: PillowImage.Image, heat: npt.NDArray[np.float32], geometry: Geometry, palette: str, alpha: float | None
) -> PillowImage.Image:
    """The picture with one map over it, autoscaled to the map's maximum, or largest size.

    Args:
        picture: RGB; its size may differ from the original's by a scale.
        heat: [row, col] float32.
        palette: that of differences takes the map as signed, with 0 in its middle.
        alpha: one opacity for the whole grid, or None for an opacity that rises with attention over a paler picture
            whose unseen parts are darkened.
    """
    signed = palette == colormap.DIFFERENCE
    values = colormap.on_scale(heat, float((np.abs(heat) if signed else heat).max(initial=0.0)), signed=signed)
    opacity = colormap.opacity(values, signed=signed) if alpha is None else np.full(values.shape, alpha)
    rgba = np.dstack([colormap.lookup(palette, values), np.rint(opacity * 255).astype(np.uint8)])
    x_scale, y_scale = picture.width / geometry.width_px, picture.height / geometry.height_px
    x0, y0, x1, y1 = grid_rect(geometry)
    left, top, right, bottom = round(x0 * x_scale), round(y0 * y_scale), round(x1 * x_scale), round(y1 * y_scale)
    layer = PillowImage.new("RGBA", picture.size)
    cells, place = enlarged(rgba, (left, top, max(left + 1, right), max(top + 1, bottom)), picture.size)
    if 0 not in cells.size:
        layer.paste(cells, place)
    ground = picture.convert("RGB")
    if alpha is None:
        # Paler, still coloured: answers name colours, and the heat must stand out.
        ground = PillowImage.blend(ground, ground.convert("L").convert("RGB"), 0.35)
        unseen = PillowImage.new("L", ground.size, 150)
        unseen.paste(0, (left, top, right, bottom))
        ground.paste((88, 92, 100), (0, 0), unseen)
    return PillowImage.alpha_composite(ground.convert("RGBA"), layer).convert("RGB")


def enlarged(
    cells: npt.NDArray[np.uint8], box: tuple[int, int, int, int], size: tuple[int, int]
) -> tuple[PillowImage.Image, tuple[int, int]]:
    """Cells with sharp edges stretched over a box, but for what lies outside of a canvas, however far that reaches.

    Args:
        cells: [row, col, channel].
        box: left, top, right, bottom on the canvas, px.
        size: width and height of the canvas, px.

    Returns:
        the visible part and its corner on the canvas.
    """
    left, top, right, bottom = box
    x, cols = _visible_cells(left, right, cells.shape[1], size[0])
    y, rows = _visible_cells(top, bottom, cells.shape[0], size[1])
    return PillowImage.fromarray(np.ascontiguousarray(cells[rows[:, None], cols])), (x, y)


def _visible_cells(start: int, end: int, count: int, most: int) -> tuple[int, npt.NDArray[np.intp]]:
    """The first px of a canvas side that cells from `start` to `end` cover, and the cell at each px from there on."""
    first = min(max(start, 0), most)
    centres = np.arange(first, max(first, min(end, most)), dtype=np.float64) + 0.5 - start
    return first, np.minimum((centres * count / (end - start)).astype(np.intp), count - 1)


def _png(width: int, height: int, lines: list[bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    # Neighbouring attention values differ too much for PNG's line filters to help: filter 0 on every line.
    data = zlib.compress(b"".join(b"\0" + line for line in lines), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
