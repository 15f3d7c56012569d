"""The one rule that makes a picture's pixels: for the server, whose model sees them, and for clients, who keep them.

Flow: a picture that Pillow opened -> its first frame -> 8-bit RGB -> turned as its EXIF orientation says. It works on
Pillow's object and imports none of it.

What LLaVA's own code does is the rule: transparency is dropped, and a colour profile is not applied, so that the model
sees the numbers in the file. Only 16-bit grey differs: its high byte is taken, as of 16-bit colour, where a plain
conversion would clip everything but the darkest shades to white.
"""

from __future__ import annotations

from typing import Any

ORIENTATION_TAG = 0x0112
MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr",
                   "I;16", "I;16L", "I;16B", "I;16N"})  # fmt: skip
"""Pillow's modes of up to 16 bits per channel; of 32-bit integers and floats nobody knows which number is white."""
_STRAIGHT = {"La": "LA", "RGBa": "RGBA"}
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""EXIF orientation to Pillow's `Transpose`."""


def upright_rgb(picture: Any) -> Any:
    """The picture's pixels as the model sees them.

    Args:
        picture: an image that Pillow opened.

    Returns:
        a new image of mode RGB; width and height are swapped when it lay on its side.

    Raises:
        ValueError: for more than 16 bits per channel.
        Exception: whatever Pillow raises for a damaged file.
    """
    if picture.mode not in MODES:
        raise ValueError(f"pixels of mode {picture.mode}, allowed up to 16 bits per channel")
    picture.load()
    turn = _TURNS.get(_orientation(picture))
    if picture.mode.startswith("I;16"):
        picture = picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if picture.mode in _STRAIGHT:
        picture = picture.convert(_STRAIGHT[picture.mode])
    picture = picture.convert("RGB")
    return picture if turn is None else picture.transpose(turn)


def _orientation(picture: Any) -> int:
    """The EXIF orientation; 1, upright, when there is none, or when the EXIF block is damaged: the pixels are not."""
    try:
        value = picture.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # Pillow raises many kinds
        return 1
    return value if isinstance(value, int) else 1
