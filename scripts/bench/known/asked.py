"""Which scenes are asked about: held out from training, validation and every other measurement."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from shapes.evaluate import SUBJECT as SHAPES
from teach.evaluation import Subject
from teach.sightings import Item
from things.evaluate import SUBJECT as THINGS

MODEL = "llava-shapes"
SUBJECTS: dict[str, Subject] = {MODEL: SHAPES, "llava-things": THINGS}
"""The worlds of known truth, by the model that answers about them."""
SEED = 74_001
JUDGED_KINDS = ("describe", "exists-yes", "shape-of", "colour-of", "where")
"""Kinds of questions whose answers have words about one object."""


def numbered(count: int, seed: int = SEED, model: str = MODEL) -> list[tuple[int, Item[Any]]]:
    """The questions of so many scenes of a model's world, each with the number of its scene."""
    items = SUBJECTS[model].held_out(seed, count)
    places = {scene: number for number, scene in enumerate(dict.fromkeys(id(item.scene) for item in items))}
    return [(places[id(item.scene)], item) for item in items]


def png(item: Item[Any]) -> bytes:
    """The scene's image as a file."""
    return as_png(item.scene.image)


def as_png(image: Image.Image) -> bytes:
    """An image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
