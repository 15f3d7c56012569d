"""How many parts a picture file has: decoders walk them one by one in Python, at a thousand times a byte's usual cost.

Flow: bytes -> format -> a walk over segments, chunks, blocks or tags that stops at the limit -> nothing, or
`TooManyPartsError`. Ten megabytes hold two million empty segments, which take a minute; programs write hundreds.
"""

from __future__ import annotations

import re
import struct

from llava_wire.pictures import tiff

MAX_SEGMENTS = 1024
"""Segments of a JPEG's header; a colour profile takes up to 255. Pillow joins those of Exif one by one."""
MAX_PARTS = 1 << 16
"""Bytes between a JPEG's segments that belong to none, resources of Photoshop in it; chunks of a PNG."""
MAX_BLOCKS = 1 << 17
"""Blocks of a GIF up to its second picture, of up to 255 bytes each."""
MAX_STRIPS = 1 << 15
"""Strips or tiles of a TIFF, and values of any of its tags of numbers."""
MAX_RUN_BYTES = 1 << 20
"""Bytes of a run-length coded BMP, which is decoded in Python."""
_LONE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
"""Markers of a JPEG without a length."""
_BYTES = frozenset({1, 2, 6, 7})
"""A TIFF's types of single bytes, which are taken as a whole."""
_JUNK = re.compile(rb"[^\xff]*")
_FILL = re.compile(rb"\xff*")


class TooManyPartsError(ValueError):
    """More parts than a picture's decoder is given: "got ..., allowed ...; do ..."."""

    def __init__(self, what: str, allowed: int) -> None:
        super().__init__(f"got more than {allowed} {what}, expected {allowed}; save it again")


def check_parts(data: bytes) -> None:
    """Counts what decoders would walk.

    Raises:
        TooManyPartsError: there is more of it than any program writes.
    """
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    elif data.startswith(b"\x89PNG"):
        _check_png(data)
    elif data.startswith(b"GIF8"):
        _check_gif(data)
    elif data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        _check_tiff(data)
    elif data.startswith(b"BM") and len(data) > MAX_RUN_BYTES and data[30:34] in (b"\1\0\0\0", b"\2\0\0\0"):
        raise TooManyPartsError("bytes of a BMP with run lengths", MAX_RUN_BYTES)


def _check_jpeg(data: bytes) -> None:
    """The segments before the first scan; fill and stray bytes count too, since decoders look at each."""
    if data.count(b"8BIM") > MAX_PARTS:
        raise TooManyPartsError("resources of Photoshop", MAX_PARTS)
    position, stray = 2, 0
    for _ in range(MAX_SEGMENTS):
        start = _end(_FILL, data, _end(_JUNK, data, position))
        stray += start - position
        if stray > MAX_PARTS:
            raise TooManyPartsError("bytes between the segments", MAX_PARTS)
        marker = data[start : start + 1]
        if marker in (b"\xda", b"\xd9", b""):
            return
        position = start + 1
        if marker[0] not in _LONE:
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
    raise TooManyPartsError("segments", MAX_SEGMENTS)


def _check_png(data: bytes) -> None:
    position = 8
    for _ in range(MAX_PARTS):
        if position + 12 > len(data) or data[position + 4 : position + 8] == b"IEND":
            return
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    raise TooManyPartsError("chunks", MAX_PARTS)


def _check_gif(data: bytes) -> None:
    """Blocks up to the second picture, which tells an animation, or the end."""
    position = 13 + _colours(data[10:11])
    pictures = parts = 0
    while position < len(data):
        kind = data[position]
        parts += 1
        if kind == 0x3B or pictures == 2:
            return
        if kind == 0x2C:
            pictures += 1
            position += 11 + _colours(data[position + 9 : position + 10])
        elif kind == 0x21:
            position += 2
        else:
            position += 1
            if parts > MAX_BLOCKS:
                break
            continue
        while position < len(data) and parts <= MAX_BLOCKS:
            size = data[position]
            position, parts = position + 1 + size, parts + 1
            if size == 0:
                break
        if parts > MAX_BLOCKS:
            break
    if parts > MAX_BLOCKS:
        raise TooManyPartsError("blocks", MAX_BLOCKS)


def _check_tiff(data: bytes) -> None:
    """The values of every tag of every page; Pillow makes an object of each strip when it opens the file."""
    try:
        pages = tiff.read_pages(data)
    except tiff.TooManyPagesError:
        return  # told of in its own words
    order, big = ("<" if data[:2] == b"II" else ">"), b"+" in data[2:4]
    head, entry, link = ("Q", 20, "Q") if big else ("H", 12, "I")
    for page in pages:
        count = struct.unpack_from(order + head, data, page.offset)[0]
        start = page.offset + struct.calcsize(head)
        for at in range(start, start + count * entry, entry):
            kind, values = struct.unpack_from(f"{order}2xH{link}", data, at)
            if values > MAX_STRIPS and kind not in _BYTES:
                raise TooManyPartsError("strips, tiles or other values of a tag", MAX_STRIPS)


def _colours(flags: bytes) -> int:
    """Bytes of a GIF's colour table by the flags that announce it."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _end(pattern: re.Pattern[bytes], data: bytes, position: int) -> int:
    found = pattern.match(data, position)
    return found.end() if found else position
