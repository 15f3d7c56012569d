"""Plain pictures of coloured shapes, drawn without the training code."""

from __future__ import annotations

import io
import random

from PIL import Image, ImageDraw

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


def scene_bytes(width_px: int, height_px: int, seed: int) -> bytes:
    """`scene` as a PNG file."""
    return encoded(scene(width_px, height_px, seed))
