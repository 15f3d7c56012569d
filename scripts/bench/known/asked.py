"""Which scenes are asked about: held out from training, validation and every other measurement."""

from __future__ import annotations

import io

from PIL import Image

from shapes.sightings import Item, held_out

MODEL = "llava-shapes"
SEED = 74_001
JUDGED_KINDS = ("describe", "exists-yes", "shape-of", "colour-of", "where")
"""Kinds of questions whose answers have words about one object."""


def numbered(count: int, seed: int = SEED) -> list[tuple[int, Item]]:
    """The questions of so many scenes, each with the number of its scene."""
    items = held_out(seed, count)
    places = {scene: number for number, scene in enumerate(dict.fromkeys(id(item.scene) for item in items))}
    return [(places[id(item.scene)], item) for item in items]


def png(item: Item) -> bytes:
    """The scene's image as a file."""
    return as_png(item.scene.image)


def as_png(image: Image.Image) -> bytes:
    """An image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
