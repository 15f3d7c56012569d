"""What a JPEG costs to decode, counted before it is.

Flow: bytes -> markers -> scans of the first picture.
"""

from __future__ import annotations

import re

FULL_SIZE_SCANS = 16
"""Scans that a picture of the most pixels may have; programs write ten. Each one visits every pixel."""
_MARKER = re.compile(rb"\xff+([^\x00\xff\x01\xd0-\xd8])")
"""The next marker with a length (or the end marker): not a stuffed byte, a restart or a start."""
_SOS, _EOI = 0xDA, 0xD9


def scan_refusal(data: bytes, pixels: int, allowed_pixels: int) -> str | None:
    """Why a JPEG has too many scans for its pixels: "got ..., allowed ...; do ...", or None.

    Args:
        data: the file.
        pixels: how many it has; allowed_pixels: how many a picture may have.
    """
    most = FULL_SIZE_SCANS * max(1, allowed_pixels // max(1, pixels))
    if _scans(data, most) <= most:
        return None
    return f"got more than {most} scans of {pixels} pixels, expected {most}; save it again"


def _scans(data: bytes, most: int) -> int:
    """How many scans a JPEG's first picture has, counted as decoders find them; counting stops above `most`."""
    position = scans = 0
    while scans <= most and (match := _MARKER.search(data, position)):
        marker, position = match[1][0], match.end()
        if marker == _EOI:
            break
        scans += marker == _SOS
        position += int.from_bytes(data[position : position + 2], "big")
    return scans
