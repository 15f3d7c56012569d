"""Makes what stands in a scene of the pictograms: kind, colour, size, turn -> a picture with its alpha."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from things.kinds import COLOURED, COLOURS

FOLDER = Path(__file__).parent / "pictograms"
_NEAR_DEG = 38.0
_LEAST_SATURATION = 0.25
_LIGHTER = {"yellow": 1.2, "red": 1.0}


@lru_cache(maxsize=256)
def pictogram(kind: str, colour: str | None) -> Image.Image:
    """The pictogram of a kind, RGBA, cut to its pixels, in a colour where the kind comes in colours."""
    with Image.open(FOLDER / f"{kind}.png") as file:
        picture = file.convert("RGBA")
    return picture if colour is None else _turned(picture, COLOURED[kind], colour)


def standing(kind: str, colour: str | None, size_px: float, degrees: float, mirrored: bool) -> Image.Image:
    """A pictogram as it stands in a scene: its longer side `size_px` before it is turned; RGBA."""
    picture = pictogram(kind, colour)
    if mirrored:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    scale = size_px / max(picture.size)
    small = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    # Premultiplied: colours of transparent pixels must not bleed into the rim.
    picture = picture.convert("RGBa").resize(small, Image.Resampling.BICUBIC, reducing_gap=3.0)
    return picture.rotate(degrees, Image.Resampling.BICUBIC, expand=True).convert("RGBA")


def _turned(picture: Image.Image, hue_deg: float, colour: str) -> Image.Image:
    """The picture with all that is near a hue turned into a colour's; shades stay."""
    pixels = np.asarray(picture.convert("RGB").convert("HSV")).astype(np.float32)
    hue = pixels[..., 0] * (360 / 255)
    apart = np.abs((hue - hue_deg + 180) % 360 - 180)
    its = (apart < _NEAR_DEG) & (pixels[..., 1] > 255 * _LEAST_SATURATION)
    pixels[..., 0] = np.where(its, COLOURS[colour] * (255 / 360), pixels[..., 0])
    pixels[..., 2] = np.where(its, np.minimum(255, pixels[..., 2] * _LIGHTER.get(colour, 1.0)), pixels[..., 2])
    turned = Image.fromarray(pixels.round().astype(np.uint8), "HSV").convert("RGB")
    turned.putalpha(picture.getchannel("A"))
    return turned
