"""The pictures that phones take, HEIC and AVIF, told apart by the brands of ISO's container.

Flow: bytes -> brands of the first box -> format.
"""

from __future__ import annotations

import struct

HEIF, AVIF = "HEIF", "AVIF"
FILMS = frozenset({b"avis", b"msf1", b"hevc", b"hevx"})
"""Brands of animations and bursts."""
_FORMATS = {b"avif": AVIF, b"avis": AVIF,
            **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), HEIF)}  # fmt: skip
_GENERAL = frozenset({b"mif1", b"msf1"})
"""Brands of the container alone; the compatible ones name what is inside."""
_MAX_BRANDS = 64


def brands(data: bytes) -> tuple[bytes, ...]:
    """The major brand and the compatible ones of a file in ISO's container; none for other files."""
    if data[4:8] != b"ftyp":
        return ()
    end = min(struct.unpack_from(">I", data)[0], 16 + 4 * _MAX_BRANDS, len(data))
    return (data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4)))


def phone_format(found: tuple[bytes, ...]) -> str | None:
    """`HEIF` or `AVIF` of a file with these brands, or None for others of ISO's container."""
    if not found or found[0] not in _FORMATS.keys() | _GENERAL:
        return None
    return next((_FORMATS[brand] for brand in found if brand in _FORMATS), HEIF)
