"""Pictures that strangers might send: damaged, lying, of another kind, or sound in an unusual way.

Flow: a random source -> the bytes of a small file.
"""

from __future__ import annotations

import functools
import io
import random
import struct
from typing import Any

from PIL import Image, features

_AVIF: tuple[str, str, dict[str, Any]] = ("AVIF", "RGBA", {"speed": 10})
_MODES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("PNG", "RGB", {}), ("PNG", "RGBA", {}), ("PNG", "P", {}), ("PNG", "LA", {}), ("PNG", "1", {}), ("PNG", "I;16", {}),
    ("JPEG", "RGB", {}), ("JPEG", "L", {"progressive": True}), ("JPEG", "CMYK", {}), ("WEBP", "RGB", {}),
    ("WEBP", "RGBA", {"lossless": True}), ("GIF", "P", {}), ("BMP", "RGB", {}), ("TIFF", "RGB", {}),
    ("TIFF", "L", {"compression": "tiff_lzw"}), ("TIFF", "I;16", {}), ("TIFF", "I;16B", {}), ("TIFF", "CMYK", {}),
    ("TIFF", "LA", {}), ("TIFF", "L", {"save_all": True}), ("GIF", "P", {"save_all": True}),
    ("PNG", "RGB", {"save_all": True}), ("WEBP", "RGB", {"save_all": True}),
    ("PNG", "P", {"transparency": bytes(range(256))}), ("PNG", "L", {"transparency": 7}),
    ("PNG", "I;16", {"transparency": 300}), ("PNG", "RGB", {"icc_profile": bytes(3 << 20)}),
    *((_AVIF,) if features.check("avif") else ()),
    ("TIFF", "F", {}), ("TIFF", "I", {}), ("TIFF", "LAB", {}),
)  # fmt: skip
_UNREAD = 3
"""How many of them, at the end, are whole and refused."""
_JPEG_FRAMES = (0xC1, 0xC2, 0xC3, 0xC5, 0xC9, 0xCA, 0xCB, 0xF7)
_OTHER = (
    b"", b"\0", b"hello", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"PK\x03\x04",
    b"\x80\x04\x95cposix\nsystem\n", b"GIF89a", b"BM", b"II*\0\x08\0\0\0\xff\xff", b"RIFF\xff\xff\xff\xffWEBPVP8 ",
    b"\xff\xd8\xff\xd9", b"\x89PNG\r\n\x1a\n", b"\0\0\0\x0cjP  \r\n\x87\n", b"qoif", b"%!PS-Adobe-3.0 EPSF-3.0",
    b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", b"\xff\x0a", b"II+\0\x08\0\0\0",
    b"MM\0*\0\0\0\x08\0\x01\x01\x00", b"data:image/png;base64,", b"<!doctype html>", b"8BPS\0\1",
)  # fmt: skip


def sound(rng: random.Random, *, phones: bool = True) -> bytes:
    """A small picture that the server can read, in a format and mode of many.

    Args:
        rng: what chooses.
        phones: those of phones too, each of which the server reads in a process of its own.
    """
    count = len(_MODES) - _UNREAD - (0 if phones else _AVIF in _MODES)
    return _file(rng.randrange(count), rng.choice((1, 7, 24, 96)), rng.choice((5, 24, 80)))


def hostile(rng: random.Random) -> bytes:
    """Bytes where a picture is wanted; mostly refused."""
    kind = rng.randrange(7)
    if kind == 0:
        return rng.choice(_OTHER) + rng.randbytes(rng.choice((0, 3, 200)))
    data = bytearray(_file(rng.randrange(len(_MODES)), 24, 24))
    if kind == 1:
        return bytes(data[: rng.randrange(len(data))])
    if kind == 2:
        return bytes(_claiming(data, rng))
    if kind == 6:
        return bytes(_of_another_kind(data, rng))
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(min(len(data), 64) if kind == 3 else len(data))
        data[at : at + rng.choice((0, 1, 1, 4))] = rng.randbytes(rng.choice((1, 1, 4)))
    return bytes(data)


def _claiming(data: bytearray, rng: random.Random) -> bytearray:
    """The same file with a large size written over its header."""
    side = rng.choice((0, 1, 6300, 20_000, 65_535, 2**31 - 1, 2**32 - 1))
    for first, at, kind in ((b"\x89PNG", 16, ">II"), (b"BM", 18, "<II"), (b"GIF8", 6, "<HH")):
        if data.startswith(first):
            most = 65_535 if kind == "<HH" else 2**32 - 1
            data[at : at + struct.calcsize(kind)] = struct.pack(kind, min(side, most), min(side, most))
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        at = data.find(marker)
        if at > 0:
            data[at + 5 : at + 9] = struct.pack(">HH", min(side, 65_535), min(side, 65_535))
    return data


def _of_another_kind(data: bytearray, rng: random.Random) -> bytearray:
    """The same file with a header that says another kind of its format."""
    if data.startswith((b"II*\0", b"MM\0*")):
        # A tag of a directory: another number of the same few.
        at = data.find(rng.choice((b"\x02\x01\x03\0", b"\x03\x01\x03\0", b"\x06\x01\x03\0", b"\x1c\x01\x03\0")))
        if at > 0:
            data[at + 8 : at + 10] = struct.pack("<H", rng.choice((0, 1, 2, 3, 5, 6, 8, 12, 16, 32, 32803, 34892)))
    if data.startswith(b"BM"):
        data[28:34] = struct.pack("<HI", rng.choice((1, 2, 4, 8, 16, 24, 32, 64)), rng.randrange(7))
    at = data.find(b"\xff\xc0")
    if at > 0:
        data[at + 1], data[at + 4] = rng.choice(_JPEG_FRAMES), rng.choice((8, 12, 16))
    if data.startswith(b"\x89PNG"):
        data[24:26] = bytes((rng.choice((1, 2, 4, 8, 16)), rng.choice((0, 2, 3, 4, 6))))
    return data


@functools.cache
def _file(kind: int, width_px: int, height_px: int) -> bytes:
    fmt, mode, options = _MODES[kind]
    ramp = Image.linear_gradient("L").resize((width_px, height_px))
    if mode == "I;16B":
        picture = Image.frombytes(mode, ramp.size, ramp.convert("I;16").tobytes())
    elif mode in ("I;16", "F", "I"):
        picture = ramp.convert(mode)
    else:
        picture = ramp.convert("RGB").convert("RGB" if mode == "LAB" else mode)
        picture = picture if mode != "LAB" else Image.merge("LAB", picture.split())
    buffer = io.BytesIO()
    # The second picture of a TIFF is larger: a file that begins with a thumbnail.
    size = (2 * width_px, 2 * height_px) if fmt == "TIFF" else picture.size
    more = (
        {"append_images": [picture.resize(size).transpose(Image.Transpose.ROTATE_180)]} if "save_all" in options else {}
    )
    picture.save(buffer, fmt, **options, **more)
    return buffer.getvalue()
