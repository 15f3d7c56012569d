"""Maps as their largest patches, exact, and the sums of what is left in every block of 4 x 4 patches.

Flow: float32 maps of shares -> the `KEPT` largest patches of each grid as they are -> what is left of each block, in
steps of 1/255 of the map's largest -> some steps up and some down, so that the sum of the grid stays right -> uint8.
`unfold` lays what is left of a block evenly over its other patches. Every number is float32, added up in the order that
docs/wire-format.md names, so that other encoders (`llava_server.look.blocks`, with torch) give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BLOCK = 4
"""Patches along a side of a block; blocks at the right and lower edge hold what is there."""
KEPT = 8
"""How many patches of a grid are exact: with so many out of the way no block of 16 is left with more than a half."""
TOP = 255
BLOCK_ERROR = 1e-3
"""How far off what is left of a block may be, as a share of a row."""
MOST_PATCHES = 1 << 16
"""Of one grid: a place is stored in two bytes."""
FINE = 1 << 16
"""Parts of a step that roundings are compared in, as whole numbers."""
_CHUNK_VALUES = 1 << 22
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Kept:
    """The patches of maps that are stored singly, of every grid the largest, largest first.

    Args:
        places: [..., kept] uint16, counted within the patch's own grid.
        values: [..., kept] float32.
    """

    places: npt.NDArray[np.uint16]
    values: Floats

    def __getitem__(self, at: Any) -> Kept:
        """Those of some maps, or of some columns, by an index of NumPy."""
        return Kept(self.places[at], self.values[at])

    @property
    def flat(self) -> Kept:
        """The same as [map, kept]."""
        wide = (-1, self.places.shape[-1])
        return Kept(self.places.reshape(wide), self.values.reshape(wide))


@dataclass(frozen=True)
class Plot:
    """Where one grid lies in the arrays of a map: its patches, blocks and kept patches.

    Args:
        rows, cols: of the grid.
        patches, blocks, kept: slices of the axes.
    """

    rows: int
    cols: int
    patches: slice
    blocks: slice
    kept: slice

    @property
    def down(self) -> int:
        """Rows of blocks."""
        return -(-self.rows // BLOCK)

    @property
    def across(self) -> int:
        """Columns of blocks."""
        return -(-self.cols // BLOCK)

    @property
    def members(self) -> npt.NDArray[np.int64]:
        """How many patches each block has, [block]."""
        high, wide = (np.minimum(BLOCK, side - BLOCK * np.arange(-(-side // BLOCK))) for side in (self.rows, self.cols))
        return np.outer(high, wide).ravel()

    def block_of(self, places: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """The block that each place lies in."""
        row, col = np.divmod(places.astype(np.int64), self.cols)
        return row // BLOCK * self.across + col // BLOCK

    def others(self, places: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """How many patches of each block are not among those at places [map, kept], [map, block]."""
        left = np.repeat(self.members[None].astype(np.uint8), len(places), axis=0)
        own, every = self.block_of(places), np.arange(len(places))
        for k in range(places.shape[1]):
            left[every, own[:, k]] -= 1
        return left


def plots_of(shapes: Sequence[tuple[int, int]]) -> tuple[Plot, ...]:
    """The plots of grids of these rows and columns, one after the other.

    Raises:
        ValueError: a grid has more patches than a place can name.
    """
    plots, patch, block, kept = [], 0, 0, 0
    for rows, cols in shapes:
        count = rows * cols
        if count > MOST_PATCHES:
            raise ValueError(
                f"precision: got 'blocks' for a grid of {count} patches, expected {MOST_PATCHES}; ask for 'uint8'"
            )
        blocks, own = -(-rows // BLOCK) * -(-cols // BLOCK), min(KEPT, count)
        plots.append(
            Plot(rows, cols, slice(patch, patch + count), slice(block, block + blocks), slice(kept, kept + own))
        )
        patch, block, kept = patch + count, block + blocks, kept + own
    return tuple(plots)


def map_bytes(shapes: Sequence[tuple[int, int]]) -> int:
    """What a map takes in a record, without its scale: a byte a block, a place and a value for every kept patch."""
    last = plots_of(shapes)[-1]
    return last.blocks.stop + 6 * last.kept.stop


@dataclass(frozen=True)
class Folded:
    """Maps as blocks.

    Args:
        codes: [map, block] uint8; scales: [map] float32.
        kept: the largest patches.
        value_error, block_error: the largest errors of a patch and of a block's sum.
    """

    codes: npt.NDArray[np.uint8]
    scales: Floats
    kept: Kept
    value_error: float
    block_error: float


def fold(maps: Floats, shapes: Sequence[tuple[int, int]]) -> Folded:
    """Maps of shares as blocks.

    Args:
        maps: [map, patch] float32, finite and >= 0.
        shapes: rows and columns of the grids, whose patches follow one another.
    """
    plots = plots_of(shapes)
    count, last = len(maps), plots[-1]
    codes = np.zeros((count, last.blocks.stop), np.uint8)
    scales = np.zeros(count, np.float32)
    kept = Kept(np.zeros((count, last.kept.stop), np.uint16), np.zeros((count, last.kept.stop), np.float32))
    value_error = block_error = 0.0
    each = max(1, _CHUNK_VALUES // maps.shape[1])
    for start in range(0, count, each):
        at = slice(start, start + each)
        part = maps[at] + np.float32(0)  # without negative zeros, whose bits are those of the largest number
        left = np.zeros((len(part), last.blocks.stop), np.float32)
        for plot in plots:
            places, left[:, plot.blocks] = _apart(part[:, plot.patches], plot)
            kept.places[at, plot.kept] = places
            kept.values[at, plot.kept] = np.take_along_axis(part[:, plot.patches], places, axis=1)
        scales[at] = left.max(axis=1) / np.float32(TOP)
        for plot in plots:
            codes[at, plot.blocks] = _steps(left[:, plot.blocks], scales[at])
        shown = unfold(codes[at], scales[at], kept[at], shapes)
        value_error = max(value_error, float(np.abs(shown - part).max(initial=0.0)))
        for plot in plots:
            off = _sums(shown[:, plot.patches] - part[:, plot.patches], plot)
            block_error = max(block_error, float(np.abs(off).max(initial=0.0)))
    return Folded(codes, scales, kept, value_error, block_error)


def _apart(part: Floats, plot: Plot) -> tuple[npt.NDArray[np.int64], Floats]:
    """The places of a grid's largest patches, [map, kept], of equal ones the first, and what is left, [map, block]."""
    patches, kept = part.shape[1], plot.kept.stop - plot.kept.start
    # Bits of floats that are not negative are in the order of the floats: one whole number has value and place.
    keys = part.view(np.int32).astype(np.int64) * patches + np.arange(patches - 1, -1, -1)
    largest = np.partition(keys, patches - kept, axis=1)[:, patches - kept :]
    places = patches - 1 - np.sort(largest, axis=1)[:, ::-1] % patches
    rest = part.copy()
    np.put_along_axis(rest, places, np.float32(0), axis=1)
    return places, _sums(rest, plot)


def _sums(values: Floats, plot: Plot) -> Floats:
    """The sum of every block, [map, block], added up row by row within it."""
    tall, wide = plot.down * BLOCK - plot.rows, plot.across * BLOCK - plot.cols
    whole = np.pad(values.reshape(-1, plot.rows, plot.cols), ((0, 0), (0, tall), (0, wide)))
    split = whole.reshape(-1, plot.down, BLOCK, plot.across, BLOCK)
    sums = np.zeros((len(whole), plot.down, plot.across), np.float32)
    for i in range(BLOCK):
        for j in range(BLOCK):
            sums += split[:, :, i, :, j]
    return sums.reshape(len(whole), plot.down * plot.across)


def _steps(left: Floats, scales: Floats) -> npt.NDArray[np.uint8]:
    """The codes of what is left of a grid's blocks, [map, block]: so many are rounded up as makes their sum right.

    Those with the largest remainders are, but never one that would then be off by more than `BLOCK_ERROR`.
    """
    safe = np.where(scales > 0, scales, np.float32(1))[:, None]
    exact = left / safe
    low = np.minimum(np.floor(exact), np.float32(TOP))
    rest = np.where(low < TOP, (exact - low) * np.float32(FINE), np.float32(0)).astype(np.int64)
    with np.errstate(over="ignore"):
        most = np.maximum(np.float32(BLOCK_ERROR) / safe * np.float32(FINE), np.float32(FINE // 2))
    most = np.minimum(most, np.float32(2 * FINE)).astype(np.int64)
    wanted = (rest.sum(axis=1, keepdims=True) + FINE // 2) // FINE
    must = (rest > most).sum(axis=1, keepdims=True)
    may = ((rest >= FINE - most) & (rest > 0)).sum(axis=1, keepdims=True)
    count = rest.shape[1]
    keys = rest * count + np.arange(count - 1, -1, -1)  # of equal remainders the first block's
    order = np.sort(keys, axis=1)[:, ::-1]
    up = np.minimum(np.maximum(wanted, must), np.maximum(may, must))
    least = np.take_along_axis(order, np.maximum(up - 1, 0), axis=1)
    codes: npt.NDArray[np.uint8] = (low + ((keys >= least) & (up > 0))).astype(np.uint8)
    return codes


def unfold(
    codes: npt.NDArray[np.generic],
    scales: Floats,
    kept: Kept,
    shapes: Sequence[tuple[int, int]],
    number: int | None = None,
) -> Floats:
    """Maps out of blocks.

    Args:
        codes: [..., block] uint8; scales: [...] float32.
        kept: the largest patches, [..., kept].
        shapes: rows and columns of the grids.
        number: one grid's; None for all.

    Returns:
        [..., patch] float32, of all grids or of the one.
    """
    lead = codes.shape[:-1]
    plots = plots_of(shapes)
    flat, factors = codes.reshape(-1, codes.shape[-1]), np.asarray(scales, np.float32).reshape(-1, 1)
    parts = [_laid(flat, factors, kept.flat, plot) for plot in (plots if number is None else [plots[number]])]
    found = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    return found.reshape(*lead, found.shape[1])


def _laid(codes: npt.NDArray[np.generic], scales: Floats, kept: Kept, plot: Plot) -> Floats:
    """The maps of one grid, [map, patch]."""
    places, values = kept.places[:, plot.kept], kept.values[:, plot.kept]
    even = codes[:, plot.blocks].astype(np.float32)
    even *= scales
    even /= np.maximum(plot.others(places), 1)
    # A rounding up must not lift a patch over those that were larger.
    np.minimum(even, values[:, -1:], out=even)
    down = even.reshape(-1, plot.down, plot.across)[:, np.arange(plot.rows) // BLOCK]
    laid = down[:, :, np.arange(plot.cols) // BLOCK].reshape(len(codes), plot.rows * plot.cols)
    np.put_along_axis(laid, places.astype(np.int64), values, axis=1)
    return laid
