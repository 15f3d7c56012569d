"""A PNG file without what does not make its pixels, however large its metadata would inflate.

Flow: bytes -> chunks -> those of the first picture and its orientation -> bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"})
_TURNS = frozenset({b"Raw profile type exif", b"Raw profile type APP1", b"XML:com.adobe.xmp"})
"""Texts that programs keep an orientation in; nobody else's text is read."""
_MAX_TEXT_BYTES = 1 << 20
_GREY_STEPS = {b"\x02\0": 85, b"\x04\0": 17}
"""Bits per channel and colour type of grey with few shades, and their distance in 8 bits."""


def is_apple(data: bytes) -> bool:
    """Whether it is the variant inside iPhone apps, which decoders cannot read."""
    return data[12:16] == b"CgBI"


def frames(data: bytes) -> int:
    """How many pictures an animation has; 1 for others."""
    for kind, body, _ in _chunks(data):
        if kind == b"acTL" and len(body) >= 4:
            return max(1, struct.unpack_from(">I", body)[0])
        if kind == b"IDAT":
            break
    return 1


def coloured_key(data: bytes) -> bool:
    """Whether one colour of 16 bits per channel stands for transparency: decoders compare its upper halves at most."""
    return data[24:26] == b"\x10\x02" and any(kind == b"tRNS" for kind, _, _ in _chunks(data))


def bare(data: bytes) -> bytes:
    """The file with the chunks that make its pixels and their orientation; from the first damage on as it is.

    The transparent shade of grey of 2 or 4 bits is written as the 8-bit shade that decoders compare it with.
    """
    kept, end, texts = [data[: len(SIGNATURE)]], len(SIGNATURE), 0
    for kind, body, end in _chunks(data):
        turns = texts < len(_TURNS) and _turns(kind, body)
        texts += turns
        if kind == b"tRNS" and (scale := _GREY_STEPS.get(data[24:26])) and len(body) == 2:
            kept.append(_chunk(kind, struct.pack(">H", struct.unpack(">H", body)[0] * scale & 0xFFFF)))
        elif kind in _PIXELS or kind[0] < ord("a") or turns:
            kept.append(data[end - len(body) - 12 : end])
    return b"".join((*kept, data[end:]))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _turns(kind: bytes, body: bytes) -> bool:
    """Whether it is a text that may hold an orientation and stays small."""
    keyword, _, rest = body.partition(b"\0")
    if kind not in (b"tEXt", b"zTXt", b"iTXt") or keyword not in _TURNS:
        return False
    packed = rest[1:] if kind == b"zTXt" else None
    if kind == b"iTXt" and rest[:1] == b"\1":
        packed = rest[2:].split(b"\0", 2)[-1]
    if packed is None:
        return len(rest) <= _MAX_TEXT_BYTES
    try:
        inflating = zlib.decompressobj()
        inflating.decompress(packed, _MAX_TEXT_BYTES)
    except zlib.error:
        return False
    return inflating.eof


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """The whole chunks as (kind, body, where the chunk ends)."""
    position = len(SIGNATURE)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        if end > len(data):
            return
        kind = data[position + 4 : position + 8]
        yield kind, data[position + 8 : end - 4], end
        if kind == b"IEND":
            return
        position = end
