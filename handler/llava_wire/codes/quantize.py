"""Float maps to stored numbers and back: the one place that knows what each encoding means.

Flow: float32 maps and their quantity -> `store` -> `Stored` (codes, scales, encoding, error bound) -> `dequantise` ->
float32 maps. Every map has a scale of its own. Of one byte a value are `sqrt-u8` for shares (`companding`: value =
scale * stored**2, sums of blocks kept), `linear-u8` for other values >= 0 (value = scale * stored; earlier writers
meant it by `uint8` for shares too) and `signed-u8` (value = scale * (stored - 128)). `blocks-u8` has fewer numbers than
a map has patches (`blocks`): `restored` gives all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llava_wire.codes import blocks
from llava_wire.codes.blocks import Kept
from llava_wire.codes.companding import TOP, compand
from llava_wire.quantity import ATTENTION, Quantity

BLOCKS = "blocks"
"""The precision that keeps sums of blocks beside the largest patches."""
_BYTES = {"uint8": 1, "float16": 2, "float32": 4}
"""Of a patch, in the precisions that have a number for each."""
PRECISIONS = (*_BYTES, BLOCKS)
DTYPES = {"uint8": "|u1", "float16": "<f2", "float32": "<f4", BLOCKS: "|u1"}
MIDDLE, SIGNED_TOP = 128, 127
"""The code of zero in `signed-u8`, and how many codes a writer uses to either side of it."""
_LARGEST = float(np.finfo(np.float32).max)
_LARGEST_HALF = float(np.finfo(np.float16).max)
Shape = tuple[int, int]
"""Rows and columns of a grid."""


@dataclass(frozen=True)
class Encoding:
    """What stored numbers mean.

    Args:
        name: as records have it.
        precision: one of `PRECISIONS`, which decides the type that is stored.
        signed: whether values below 0 can be stored; unsigned: whether it is for values of which none is below 0.
        top: what a scale is multiplied by at most; 0 where scales are 1.
        shares: whether it is for shares alone.
    """

    name: str
    precision: str
    signed: bool
    unsigned: bool
    top: float
    shares: bool = False


_ALL = (
    Encoding("sqrt-u8", "uint8", signed=False, unsigned=True, top=float(TOP * TOP)),
    Encoding("linear-u8", "uint8", signed=False, unsigned=True, top=float(TOP)),
    Encoding("signed-u8", "uint8", signed=True, unsigned=False, top=float(MIDDLE)),
    Encoding("blocks-u8", BLOCKS, signed=False, unsigned=True, top=float(blocks.TOP), shares=True),
    Encoding("float16", "float16", signed=True, unsigned=True, top=0.0),
    Encoding("float32", "float32", signed=True, unsigned=True, top=0.0),
)
ENCODINGS = {one.name: one for one in _ALL}
"""Every encoding that is read, by its name."""


def readable(precision: str, quantity: Quantity) -> tuple[str, ...]:
    """How maps of a quantity may have been written in a precision."""
    return tuple(
        one.name
        for one in ENCODINGS.values()
        if one.precision == precision
        and (one.signed if quantity.signed else one.unsigned)
        and (quantity.is_share or not one.shares)
    )


def written(precision: str, quantity: Quantity = ATTENTION) -> str:
    """How maps of a quantity are written in a precision.

    Raises:
        ValueError: there is no such precision, or it holds no maps of this quantity.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: got {precision!r}, expected one of {list(PRECISIONS)}")
    if precision == BLOCKS:
        if not quantity.is_share:
            raise ValueError(
                f"precision: got 'blocks' for {quantity.name!r}, expected shares of 0 or more; ask for 'uint8'"
            )
        return "blocks-u8"
    if precision != "uint8":
        return precision
    return "signed-u8" if quantity.signed else "sqrt-u8" if quantity.is_share else "linear-u8"


def map_bytes(precision: str, shapes: Sequence[Shape]) -> int:
    """What a map on these grids takes in a precision, without its scale.

    Raises:
        ValueError: the precision does not hold such grids.
    """
    if precision == BLOCKS:
        return blocks.map_bytes(shapes)
    return _BYTES[precision] * sum(rows * cols for rows, cols in shapes)


def most_map_bytes(precision: str, patches: int) -> int:
    """The same for grids of which nothing but the number of patches is known, or for an unknown precision: at most."""
    # Blocks of narrow grids have a patch each, and of small grids all patches are kept.
    return {**_BYTES, BLOCKS: 7}.get(precision, max(_BYTES.values())) * patches


@dataclass(frozen=True)
class Stored:
    """Maps as a record keeps them.

    Args:
        codes: [..., patch] in the precision's type; [..., block] where `kept` holds the largest patches.
        scales: [...] float32, all 1 for float16 and float32.
        encoding: its name.
        error_bound: the largest possible absolute error of a value; block_error_bound: of a block's sum, None
            where nothing is said of it.
        kept: the patches that are stored singly, of `blocks-u8`.
    """

    codes: npt.NDArray[np.generic]
    scales: npt.NDArray[np.float32]
    encoding: str
    error_bound: float
    block_error_bound: float | None = None
    kept: Kept | None = None


def store(
    maps: npt.NDArray[np.float32], precision: str, shapes: Sequence[Shape], quantity: Quantity = ATTENTION
) -> Stored:
    """Encodes maps, as `written` says.

    Args:
        maps: [..., patch] float32, finite, and >= 0 unless the quantity is signed.
        precision: one of `PRECISIONS`.
        shapes: rows and columns of the grids, whose patches follow one another.
        quantity: what the numbers are.

    Raises:
        ValueError: maps or grids that the encoding cannot hold.
    """
    encoding = written(precision, quantity)
    if not np.isfinite(maps).all() or (not quantity.signed and maps.min(initial=0.0) < 0):
        kind = "finite" if quantity.signed else "finite and 0 or more"
        raise ValueError(f"maps: got a value that is not, expected all of {quantity.name!r} {kind}")
    lead = maps.shape[:-1]
    most = float(np.abs(maps).max(initial=0.0))
    if precision == "float32":
        return Stored(maps.astype("<f4", copy=False), np.ones(lead, np.float32), encoding, 0.0)
    if precision == "float16":
        if most > _LARGEST_HALF:
            raise ValueError(f"maps: got a value of {most:g}, expected up to {_LARGEST_HALF:g}; store float32")
        # Half a unit in the last place: 11 significant bits; the smallest subnormal step is 2**-24.
        return Stored(maps.astype("<f2"), np.ones(lead, np.float32), encoding, max(most * 2.0**-11, 2.0**-25))
    flat = np.asarray(maps, np.float32).reshape(-1, maps.shape[-1])  # [map, patch]
    if precision == BLOCKS:
        return in_blocks(blocks.fold(flat, shapes), lead, most)
    if encoding == "sqrt-u8":
        codes, scales, bound = _companded(flat, shapes)
        # Measured on these very values; the rest is for readers that round in another order.
        bound += most * 2.0**-22
    else:
        codes, scales, bound = _even_steps(flat, signed=quantity.signed)
    return Stored(codes.reshape(maps.shape), scales.reshape(lead), encoding, bound)


def in_blocks(found: blocks.Folded, lead: tuple[int, ...], most: float) -> Stored:
    """Maps that were folded, here or on a device, as a record keeps them.

    Args:
        found: the maps, [map, ...].
        lead: the axes that `map` stands for.
        most: the largest value.
    """
    wide = (*lead, found.kept.places.shape[-1])
    kept = Kept(found.kept.places.reshape(wide), found.kept.values.reshape(wide))
    # Measured on these very values; the rest is for readers that round in another order, and add up in another.
    slack = most * 2.0**-20
    errors = (found.value_error + slack, found.block_error + slack)
    codes = found.codes.reshape(*lead, found.codes.shape[-1])
    return Stored(codes, found.scales.reshape(lead), "blocks-u8", *errors, kept)


def _companded(
    flat: npt.NDArray[np.float32], shapes: Sequence[Shape]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], float]:
    """Square-root codes of [map, patch]: one scale per map, sums kept in every grid by itself."""
    peaks = flat.max(axis=-1, initial=0.0)
    parts, worst, start = [], 0.0, 0
    scales = np.zeros(len(flat), np.float32)
    for rows, cols in shapes:
        part = flat[:, start : start + rows * cols].reshape(-1, rows, cols)
        codes, scales, bound = compand(part, peaks)
        parts.append(codes.reshape(len(flat), rows * cols))
        worst, start = max(worst, bound), start + rows * cols
    return np.concatenate(parts, axis=-1), scales, worst


def _even_steps(
    flat: npt.NDArray[np.float32], *, signed: bool
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], float]:
    """Codes of [map, patch] at equal steps, the largest value at the last step."""
    top, middle = (SIGNED_TOP, MIDDLE) if signed else (TOP, 0)
    peaks = np.abs(flat).max(axis=-1, initial=0.0)  # [map]
    scales = (peaks / np.float32(top)).astype("<f4")
    safe = np.where(scales > 0, scales, np.float32(1))[:, None]
    codes = (np.clip(np.rint(flat / safe), -top if signed else 0, top) + middle).astype(np.uint8)
    # Half a step, with room for the float32 rounding of scale and product; below the normal numbers of float32 a scale
    # itself is off by up to 2**-150, which 255 steps multiply.
    bound = float(scales.max(initial=0.0)) * (0.5 + 255 * 2.0**-22) + (2.0**-141 if peaks.max(initial=0.0) > 0 else 0.0)
    return codes, scales, bound


def quantise(
    maps: npt.NDArray[np.float32], precision: str
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.float32], float]:
    """Maps of attention on one grid, [..., row, col] float32, as (codes of the same shape, scales, error bound)."""
    rows, cols = maps.shape[-2:]
    found = store(maps.reshape(*maps.shape[:-2], rows * cols), precision, [(rows, cols)])
    return found.codes.reshape(maps.shape), found.scales, found.error_bound


def restored(stored: Stored, shapes: Sequence[Shape], number: int | None = None) -> npt.NDArray[np.float32]:
    """The maps of what a record keeps.

    Args:
        stored: as `store` gives it; bounds are not looked at.
        shapes: rows and columns of the grids.
        number: one grid's; None for all.

    Returns:
        [..., patch] float32, of all grids or of the one.

    Raises:
        ValueError: an unknown encoding.
    """
    if stored.kept is not None:
        return blocks.unfold(stored.codes, stored.scales, stored.kept, shapes, number)
    codes = stored.codes
    if number is not None:
        start = sum(rows * cols for rows, cols in shapes[:number])
        codes = np.ascontiguousarray(codes[..., start : start + shapes[number][0] * shapes[number][1]])
    return dequantise(codes, stored.scales, stored.encoding)


def dequantise(
    stored: npt.NDArray[np.generic], scales: npt.NDArray[np.float32], encoding: str
) -> npt.NDArray[np.float32]:
    """Decodes stored maps that have a number for each patch.

    Args:
        stored: [..., patch] or [..., row, col] in the precision's type.
        scales: [...] float32.
        encoding: one of `ENCODINGS`, but for `blocks-u8`.

    Returns:
        float32, of the shape of `stored`.

    Raises:
        ValueError: another encoding.
    """
    if encoding not in ENCODINGS or ENCODINGS[encoding].precision == BLOCKS:
        raise ValueError(f"encoding: got {encoding!r:.40}, expected one of {list(ENCODINGS)}; blocks-u8 takes restored")
    levels = stored.astype(np.float32)
    if encoding == "sqrt-u8":
        levels *= levels
    elif encoding == "signed-u8":
        levels -= np.float32(MIDDLE)
    factors = np.asarray(scales, np.float32)
    levels *= factors.reshape(factors.shape + (1,) * (levels.ndim - factors.ndim))
    return levels


def largest_scale(encoding: str, quantity: Quantity, slack: float) -> float:
    """The largest scale of one-byte codes whose values are possible: shares up to 1 and `slack`, others finite."""
    return ((1 + slack) if quantity.is_share else _LARGEST) / ENCODINGS[encoding].top
