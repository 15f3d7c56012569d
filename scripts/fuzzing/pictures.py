"""Pictures that strangers might send: damaged, lying, of another kind, or sound in an unusual way.

Flow: a random source -> the bytes of a small file.
"""

from __future__ import annotations

import functools
import io
import random
import struct
from typing import Any

from PIL import Image

_MODES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("PNG", "RGB", {}), ("PNG", "RGBA", {}), ("PNG", "P", {}), ("PNG", "LA", {}), ("PNG", "1", {}), ("PNG", "I;16", {}),
    ("JPEG", "RGB", {}), ("JPEG", "L", {"progressive": True}), ("JPEG", "CMYK", {}), ("WEBP", "RGB", {}),
    ("WEBP", "RGBA", {"lossless": True}), ("GIF", "P", {}), ("BMP", "RGB", {}), ("TIFF", "RGB", {}),
    ("TIFF", "L", {"compression": "tiff_lzw"}), ("TIFF", "F", {}), ("TIFF", "I", {}),
)  # fmt: skip
_OTHER = (
    b"", b"\0", b"hello", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"PK\x03\x04",
    b"\x80\x04\x95cposix\nsystem\n", b"GIF89a", b"BM", b"II*\0\x08\0\0\0\xff\xff", b"RIFF\xff\xff\xff\xffWEBPVP8 ",
    b"\xff\xd8\xff\xd9", b"\x89PNG\r\n\x1a\n", b"\0\0\0\x0cjP  \r\n\x87\n", b"qoif", b"%!PS-Adobe-3.0 EPSF-3.0",
)  # fmt: skip


def sound(rng: random.Random) -> bytes:
    """A small picture that the server can read, in a format and mode of many."""
    return _file(rng.randrange(len(_MODES) - 2), rng.choice((1, 7, 24, 96)), rng.choice((5, 24, 80)))


def hostile(rng: random.Random) -> bytes:
    """Bytes where a picture is wanted; mostly refused."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(_OTHER) + rng.randbytes(rng.choice((0, 3, 200)))
    data = bytearray(_file(rng.randrange(len(_MODES)), 24, 24))
    if kind == 1:
        return bytes(data[: rng.randrange(len(data))])
    if kind == 2:
        return bytes(_claiming(data, rng))
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


@functools.cache
def _file(kind: int, width_px: int, height_px: int) -> bytes:
    fmt, mode, options = _MODES[kind]
    ramp = Image.linear_gradient("L").resize((width_px, height_px))
    picture = ramp.convert("RGB").convert(mode) if mode not in ("I;16", "F", "I") else ramp.convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, fmt, **options)
    return buffer.getvalue()
