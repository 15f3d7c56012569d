"""Float maps to bytes and back, one scale per map.

Flow: float32 maps -> (stored, scales) -> float32 maps. Linear uint8: value = stored * scale, so the error of a value is
at most half of its map's scale, plus float32 rounding.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

PRECISIONS = ("uint8", "float16", "float32")
ENCODINGS = {"uint8": "linear-u8", "float16": "float16", "float32": "float32"}
BYTES_PER_VALUE = {"uint8": 1, "float16": 2, "float32": 4}


def quantise(
    maps: npt.NDArray[np.float32], precision: str
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.float32], float]:
    """Encodes maps for storage.

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
    peaks = maps.max(axis=(-2, -1), initial=0.0)
    scales = (peaks / np.float32(255)).astype("<f4")  # [...]
    safe = np.where(scales > 0, scales, np.float32(1))[..., None, None]
    stored = np.clip(np.rint(maps / safe), 0, 255).astype(np.uint8)
    # The bound in float64, with room for the float32 rounding of scale and product; below the normal numbers of
    # float32 a scale itself is off by up to 2**-150, which 255 steps multiply.
    bound = float(scales.max(initial=0.0)) * (0.5 + 255 * 2.0**-22) + (2.0**-141 if peaks.max(initial=0.0) > 0 else 0.0)
    return stored, scales, bound


def dequantise(stored: npt.NDArray[np.generic], scales: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Decodes stored maps [..., row, col] with scales [...] to float32 [..., row, col]."""
    return stored.astype(np.float32) * scales.astype(np.float32)[..., None, None]
