"""Plain pictures of coloured shapes, drawn without the training code."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Sequence

import pytest
from PIL import Image, ImageDraw, features

_COLOURS = ((214, 40, 40), (44, 150, 62), (40, 84, 206), (240, 200, 30))


def scene(width_px: int, height_px: int, seed: int) -> Image.Image:
    """Two circles and a square at random places on a light ground."""
    rng = random.Random(seed)
    picture = Image.new("RGB", (width_px, height_px), (226, 222, 214))
    draw = ImageDraw.Draw(picture)
    for i in range(3):
        x, y, r = rng.randint(25, width_px - 25), rng.randint(25, height_px - 25), rng.randint(14, 24)
        shape = draw.rectangle if i == 1 else draw.ellipse
        shape((x - r, y - r, x + r, y + r), fill=rng.choice(_COLOURS))
    return picture


def encoded(picture: Image.Image, fmt: str = "PNG", **options: object) -> bytes:
    """The picture as the bytes of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, fmt, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(size: tuple[int, int], bits: int, colour: int, rows: Sequence[bytes], *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file written by hand: `rows` unpacked, `chunks` between the header and the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunk(*one) for one in chunks) + pixels + chunk(b"IEND", b"")


Tags = Sequence[tuple[int, int, Sequence[int]]]
"""A directory of a TIFF: (tag, 3 for short or 4 for long, values) each."""


def tiff(tags: Tags, data: bytes, order: str = "<", *more: Tags) -> bytes:
    """A TIFF of one or more pages, and what lies at offset 2000."""
    body = bytearray((b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8))
    pages = (tags, *more)
    for index, page in enumerate(pages):
        start = len(body) + 2 + 12 * len(page) + 4
        fixed, behind = struct.pack(f"{order}H", len(page)), b""
        for tag, kind, values in sorted(page):
            raw = struct.pack(f"{order}{len(values)}{'HI'[kind - 3]}", *values)
            if len(raw) > 4:
                behind, raw = behind + raw, struct.pack(f"{order}I", start + len(behind))
            fixed += struct.pack(f"{order}HHI", tag, kind, len(values)) + raw.ljust(4, b"\0")
        following = start + len(behind) if index + 1 < len(pages) else 0
        body += fixed + struct.pack(f"{order}I", following) + behind
    assert len(body) <= 2000
    return bytes(body).ljust(2000, b"\0") + data


def strip(size: tuple[int, int], bits: Sequence[int], photometric: int, more: Tags = (), at: int = 2000) -> Tags:
    """The tags of an uncompressed page in one strip at this offset."""
    count = -(-size[0] * sum(bits) // 8) * size[1]
    return [(256, 3, [size[0]]), (257, 3, [size[1]]), (258, 3, bits), (259, 3, [1]), (262, 3, [photometric]),
            (273, 4, [at]), (277, 3, [len(bits)]), (278, 4, [size[1]]), (279, 4, [count]), *more]  # fmt: skip


def scene_bytes(width_px: int, height_px: int, seed: int) -> bytes:
    """`scene` as a PNG file."""
    return encoded(scene(width_px, height_px, seed))


def phone(fmt: str, picture: Image.Image, **options: object) -> bytes:
    """The picture as a phone would write it."""
    if fmt == "AVIF":
        if not features.check("avif"):
            pytest.skip("this Pillow was built without AVIF")
        return encoded(picture, "AVIF", **{"quality": 95, "speed": 10, **options})
    written = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed: pip install pillow-heif")
    buffer = io.BytesIO()
    written.from_pillow(picture).save(buffer, **{"quality": 95, **options})
    return buffer.getvalue()
