"""Float maps to stored numbers and back: the one place that knows what each encoding means.

Flow: float32 maps -> `quantise` -> (stored, scales, error bound) -> `dequantise` -> float32 maps. Every map has a scale
of its own. `uint8` is written as `sqrt-u8` (`companding`: value = scale * stored**2, sums of blocks kept); `linear-u8`
(value = scale * stored) is what earlier writers meant by it, and is only read.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from llava_wire.codes.companding import compand

PRECISIONS = ("uint8", "float16", "float32")
ENCODINGS = {"uint8": "sqrt-u8", "float16": "float16", "float32": "float32"}
"""How each precision is written."""
READABLE = {"uint8": ("sqrt-u8", "linear-u8"), "float16": ("float16",), "float32": ("float32",)}
"""How each precision may have been written."""
DTYPES = {"uint8": "|u1", "float16": "<f2", "float32": "<f4"}
BYTES_PER_VALUE = {"uint8": 1, "float16": 2, "float32": 4}


def quantise(
    maps: npt.NDArray[np.float32], precision: str
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.float32], float]:
    """Encodes maps for storage, as `ENCODINGS[precision]`.

    Args:
        maps: [..., row, col] float32, finite and >= 0.
        precision: one of `PRECISIONS`.

    Returns:
        stored [..., row, col] in the precision's dtype; scales [...] float32 (all 1 unless uint8); the largest
        possible absolute error of a value.
    """
    lead = maps.shape[:-2]
    ones = np.ones(lead, dtype=np.float32)
    if precision == "float32":
        return maps.astype("<f4", copy=False), ones, 0.0
    if precision == "float16":
        stored = maps.astype("<f2")
        # Half a unit in the last place: 11 significant bits; the smallest subnormal step is 2**-24.
        bound = max(float(maps.max(initial=0.0)) * 2.0**-11, 2.0**-25)
        return stored, ones, bound
    if precision != "uint8":
        raise ValueError(f"precision: got {precision!r}, allowed {list(PRECISIONS)}")
    codes, scales, worst = compand(np.asarray(maps, np.float32).reshape(-1, *maps.shape[-2:]))
    # Measured on these very values; the rest is for readers that round in another order.
    bound = worst + float(maps.max(initial=0.0)) * 2.0**-22
    return codes.reshape(maps.shape), scales.reshape(lead), bound


def dequantise(
    stored: npt.NDArray[np.generic], scales: npt.NDArray[np.float32], encoding: str
) -> npt.NDArray[np.float32]:
    """Decodes stored maps.

    Args:
        stored: [..., row, col] in the precision's dtype.
        scales: [...] float32.
        encoding: one of `READABLE`'s.

    Returns:
        float32 [..., row, col].

    Raises:
        ValueError: another encoding.
    """
    if not any(encoding in known for known in READABLE.values()):
        raise ValueError(f"encoding: got {encoding!r:.40}, allowed {READABLE}")
    levels = stored.astype(np.float32)
    if encoding == "sqrt-u8":
        levels *= levels
    levels *= np.asarray(scales, np.float32)[..., None, None]
    return levels
