"""The one rule that makes a picture's pixels: for the server, whose model sees them, and for clients, who keep them.

Flow: bytes -> `picture_file` -> opened by Pillow -> checked by the caller -> 8-bit RGB on white -> turned as its EXIF
orientation says. It works on Pillow's objects and imports none of it.

Transparency lies on white, as people see it on a page, and as transformers' processors composite it; LLaVA's own first
scripts dropped it, so that the colours beneath, which nobody sees, counted. A colour profile is not applied: the model
sees the numbers in the file, as in LLaVA's code. Of 16 bits per channel the high byte is taken.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from llava_wire.pictures.kinds import ANIMATION, PictureFile, picture_file, unsupported
from llava_wire.schema import Note

ORIENTATION_TAG = 0x0112
MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr",
                   "I;16", "I;16L", "I;16B", "I;16N"})  # fmt: skip
"""Pillow's modes of up to 16 bits per channel; of 32-bit integers and floats nobody knows which number is white."""
_STRAIGHT = {"La": "LA", "RGBa": "RGBA"}
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""EXIF orientation to Pillow's `Transpose`."""
_PNG_METADATA = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
"""Where a PNG may have its EXIF orientation."""
_WHITE = (255, 255, 255)
_BAND_ROWS = 256
"""Rows that are laid on white at once: a large picture must not exist four times."""
_ANIMATED = frozenset({"GIF", "WEBP"})
_FAILURES = (SyntaxError, OSError, ValueError, LookupError, TypeError, struct.error)
"""What Pillow raises for a file that it cannot read."""
_TRANSPARENCY = Note(
    "transparency",
    "image",
    "Parts of the image are transparent; they were laid on white, as a page shows them, and so the model saw them.",
)


@dataclass(frozen=True)
class Upright:
    """A picture as the model sees it.

    Args:
        pixels: Pillow's image of mode RGB; width and height are swapped when it lay on its side.
        notes: what was done that its sender may not expect.
    """

    pixels: Any
    notes: tuple[Note, ...] = ()


def damage_of(error: Exception) -> str:
    """A decoder's words for a file that it cannot read, as one line without the addresses of its objects."""
    if type(error).__name__ == "UnidentifiedImageError":  # Pillow's, whose text names an object in memory
        return "its header is cut or broken"
    words = re.sub(r"<[^<>]* object at 0x[0-9a-f]+>", "the file", " ".join(str(error).split()))
    return words[:200] or type(error).__name__


def size_refusal(pixels: int, allowed: int, size: tuple[int, int] | None = None) -> str:
    """The refusal of a picture with too many pixels, the same words wherever it is read."""
    return f"got {f'{size[0]} x {size[1]} = ' if size else ''}{pixels} pixels, expected {allowed}; scale it down"


def bomb_pixels(error: Exception) -> int | None:
    """How many pixels Pillow refused by a limit of its own, before a caller could hold them against its limit."""
    found = re.search(r"\((\d+) pixels\)", str(error)) if type(error).__name__ == "DecompressionBombError" else None
    return int(found[1]) if found else None


def read_upright(data: bytes, opener: Callable[..., Any], check: Callable[[Any, PictureFile], None]) -> Upright:
    """A picture file's pixels.

    Args:
        data: a picture file.
        opener: Pillow's `Image.open`.
        check: called before any pixel is decoded with the opened picture and its file; raises what forbids it.

    Raises:
        UnsupportedPictureError: the format or kind is not read.
        MemoryError: there is no memory for the pixels.
        Exception: whatever `check` raises, and Pillow for a damaged file.
    """
    file = picture_file(data)
    try:
        picture = opener(io.BytesIO(file.data), formats=(file.format,))
    except _FAILURES as error:
        if file.unopened is None:
            raise
        raise unsupported(file.unopened) from error
    check(picture, file)
    if picture.mode not in MODES:
        raise unsupported(file.unopened or f"a {file.format} with pixels of mode {picture.mode}")
    try:
        upright, transparent = _upright_rgb(picture, file.negative)
    except _FAILURES as error:
        if file.undecoded is None:
            raise
        raise unsupported(file.undecoded) from error
    animation = (ANIMATION,) if file.format in _ANIMATED and _is_animated(picture) else ()
    return Upright(upright, (*file.notes, *animation, *((_TRANSPARENCY,) if transparent else ())))


def stated_size(picture: Any, file: PictureFile) -> tuple[int, int]:
    """Width and height in px of an opened picture when it is upright, from its headers."""
    width, height = picture.size
    # Pillow turns the size of a TIFF when it opens it, and decodes a PNG to look for EXIF behind its pixels.
    plain = file.format == "TIFF" or (file.format == "PNG" and not any(mark in file.data for mark in _PNG_METADATA))
    return (height, width) if not plain and 5 <= _orientation(picture) <= 8 else (width, height)


def _upright_rgb(picture: Any, negative: bool) -> tuple[Any, bool]:
    """An opened picture as upright RGB on white, and whether any part of it is transparent."""
    frame = picture.tile[0][1] if picture.format == "GIF" and picture.tile else None
    picture.load()
    turn = _TURNS.get(_orientation(picture))
    if picture.mode.startswith("I;16"):
        picture = _high_bytes(picture)
    if picture.mode in _STRAIGHT:
        picture = picture.convert(_STRAIGHT[picture.mode])
    rgb, transparent = _on_white(picture)
    if negative:
        rgb = rgb.point(lambda value: 255 - value)
    if frame is not None and tuple(frame) != (0, 0, *rgb.size):
        # The first frame of an animation may be smaller than its screen, which is transparent around it.
        inner = rgb.crop(frame)
        rgb.paste(_WHITE, (0, 0, *rgb.size))
        rgb.paste(inner, frame)
        transparent = True
    if turn is None:
        return rgb, transparent
    if picture.format not in _ANIMATED:
        picture.close()  # so that a large one exists twice, not three times
    return rgb.transpose(turn), transparent


def _high_bytes(picture: Any) -> Any:
    """16-bit grey as 8-bit grey of its high bytes; LA where one of its numbers stands for transparency."""
    key = picture.info.get("transparency")
    if not isinstance(key, int):
        return picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    values = np.asarray(picture)
    pair = np.stack([values >> 8, np.where(values == key, 0, 255)], -1).astype(np.uint8)
    both = picture.convert("L")
    del both.info["transparency"]
    both = both.convert("LA")
    both.frombytes(pair.tobytes())
    return both


def _on_white(picture: Any) -> tuple[Any, bool]:
    """A picture as RGB, and whether white shows through it anywhere."""
    if "A" not in picture.getbands() and picture.info.get("transparency") is None:
        return picture.convert("RGB"), False
    if picture.format == "BMP" and picture.getchannel("A").getextrema()[1] == 0:
        # Windows leaves the alpha of screenshots empty and shows them whole; so do browsers.
        return picture.convert("RGB"), False
    flat, transparent = None, False
    for top in range(0, picture.height, _BAND_ROWS):
        box = (0, top, picture.width, min(top + _BAND_ROWS, picture.height))
        band = picture.crop(box).convert("RGBA")
        flat = flat or band.convert("RGB").crop((0, 0, *picture.size))
        if band.getchannel("A").getextrema()[0] < 255:
            transparent = True
            ground = band.copy()
            ground.paste((*_WHITE, 255), (0, 0, *band.size))
            ground.alpha_composite(band)
            band = ground
        flat.paste(band.convert("RGB"), box)
    return flat, transparent


def _is_animated(picture: Any) -> bool:
    """Whether there is a second picture; a damaged one does not harm the first."""
    try:
        return bool(picture.is_animated)
    except Exception:  # Pillow raises many kinds
        return False


def _orientation(picture: Any) -> int:
    """The EXIF orientation; 1, upright, when there is none, or when the EXIF block is damaged: the pixels are not."""
    try:
        value = picture.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # as above
        return 1
    return value if isinstance(value, int) else 1
