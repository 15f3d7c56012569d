"""Judges where attention lands: answer tokens + scene -> which token names which object -> is the peak in its box.

numpy only, so that any record can be judged, whoever made it. Row t of attention is the row that *predicted* token t.
Rectangles are float64 [rows, columns, 4], (x0, y0, x1, y1) per patch in pixels of the original picture, like boxes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from llava_eval.metrics.pointing_game import peak_share
from llava_eval.truth import as_truth, centres_inside
from shapes.scenes import COLOURS, SHAPES, Box, SceneObject

Role = Literal["colour", "shape"]


@dataclass(frozen=True)
class Naming:
    """Answer token `step` is `word`, which names object `index` of the scene; `asked`: the question has the word too,
    so that it could have been copied without a look at the picture."""

    step: int
    word: str
    role: Role
    index: int
    asked: bool


def naming_tokens(tokens: Sequence[str], objects: Sequence[SceneObject], question: str = "") -> list[Naming]:
    """Which tokens (their texts, in order) name which object. Colour and shape words pair up in the order they come;
    a pair that is no object of the scene, and every word of an answer that begins with "No", names nothing."""
    words = [(step, token.strip()) for step, token in enumerate(tokens)]
    if any(word == "No" for _, word in words[:1]):
        return []
    asked = set(question.replace("?", " ").replace(".", " ").split())
    names = [(step, word) for step, word in words if word in COLOURS or word in SHAPES]
    namings: list[Naming] = []
    while len(names) >= 2:
        pair = names[:2]
        parts = {_role(word): word for _, word in pair}
        if len(parts) < 2:  # two colours or two shapes: the first one stands alone
            names = names[1:]
            continue
        names = names[2:]
        for index, thing in enumerate(objects):
            if (thing.colour, thing.shape) == (parts["colour"], parts["shape"]):
                namings += [Naming(step, word, _role(word), index, word in asked) for step, word in pair]
    return namings


def _role(word: str) -> Role:
    return "colour" if word in COLOURS else "shape"


def centre_crop_rectangles(width_px: int, height_px: int, grid: int) -> np.ndarray:
    """Rectangles [grid, grid, 4] of the patches where the central square is what the model sees."""
    side = min(width_px, height_px)
    edges = np.arange(grid + 1) * side / grid
    x, y = edges + (width_px - side) / 2, edges + (height_px - side) / 2
    left, top = np.meshgrid(x[:-1], y[:-1])
    right, bottom = np.meshgrid(x[1:], y[1:])
    return np.stack([left, top, right, bottom], axis=-1)


def peaks_inside(maps: np.ndarray, rectangles: np.ndarray, box: Box) -> np.ndarray:
    """maps [..., rows, columns], any float -> [...] bool: does the strongest patch have its centre in the box. Patches
    that tie must all have."""
    if maps.shape[-2:] != rectangles.shape[:2]:
        raise ValueError(f"maps of {maps.shape[-2:]} patches, rectangles of {rectangles.shape[:2]}")
    inside = centres_inside(rectangles, as_truth([box]))
    return peak_share(maps.reshape(*maps.shape[:-2], -1), inside.ravel()) == 1
