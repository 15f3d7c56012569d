"""Judges where attention lands: answer tokens + scene -> which token names which object -> is the peak in its box.

numpy only, so that any record can be judged, whoever made it. Row t of attention is the row that *predicted* token t.
Rectangles are float64 [rows, columns, 4], (x0, y0, x1, y1) per patch in pixels of the original picture, like boxes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shapes.scenes import COLOURS, SHAPES, Box, SceneObject

_NORMAL_95 = 1.959963984540054

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


@dataclass(frozen=True)
class Share:
    """`hits` of `count`, with the 95 % interval of Wilson."""

    hits: int
    count: int

    @property
    def value(self) -> float:
        return self.hits / self.count

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.hits, self.count)

    def as_json(self) -> dict[str, float | int | list[float]]:
        return {
            "value": round(self.value, 4),
            "n": self.count,
            "interval_95": [round(bound, 4) for bound in self.interval],
        }


def share_of(hits: Sequence[bool] | np.ndarray) -> Share:
    """hits [n] bool -> how many of how many."""
    return Share(int(np.sum(hits)), len(hits))


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion; sound near 0 and 1, where hits / count plus or minus is not."""
    if count < 1 or not 0 <= hits <= count:
        raise ValueError(f"{hits} hits of {count} is no proportion")
    share, squared = hits / count, _NORMAL_95**2
    centre = (share + squared / (2 * count)) / (1 + squared / count)
    spread = _NORMAL_95 / (1 + squared / count) * math.sqrt(share * (1 - share) / count + squared / (4 * count**2))
    # At the ends the bound is exact, but rounding would leave it a hair off.
    return (0.0 if hits == 0 else centre - spread), (1.0 if hits == count else centre + spread)


def scene_interval(hits: Sequence[bool] | np.ndarray, scenes: Sequence[int]) -> tuple[float, float]:
    """The 95 % interval of the share of hits, when hits of one scene are not independent of each other.

    Args:
        hits: [n] bool.
        scenes: [n], the scene of each; equal numbers are one scene.

    Returns:
        low and high, from the spread of whole scenes about the share (the linearised ratio of sums).
    """
    found, groups = np.asarray(hits, np.float64), np.unique(np.asarray(scenes), return_inverse=True)[1]
    count = int(groups.max()) + 1
    if count < 2:
        raise ValueError(f"scenes: got {count}, allowed 2 or more: one scene has no spread")
    share = found.mean()
    apart = np.bincount(groups, found - share)
    spread = _NORMAL_95 * math.sqrt(count / (count - 1) * float((apart**2).sum())) / len(found)
    return float(max(0.0, share - spread)), float(min(1.0, share + spread))


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


def centres_inside(rectangles: np.ndarray, box: Box) -> np.ndarray:
    """[rows, columns] bool: which patches have their centre in the box."""
    x = (rectangles[..., 0] + rectangles[..., 2]) / 2
    y = (rectangles[..., 1] + rectangles[..., 3]) / 2
    x0, y0, x1, y1 = box
    return (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)


def peaks_inside(maps: np.ndarray, rectangles: np.ndarray, box: Box) -> np.ndarray:
    """maps [..., rows, columns], any float -> [...] bool: does the strongest patch (the first, of equals) have its
    centre in the box."""
    if maps.shape[-2:] != rectangles.shape[:2]:
        raise ValueError(f"maps of {maps.shape[-2:]} patches, rectangles of {rectangles.shape[:2]}")
    flat = maps.reshape(*maps.shape[:-2], -1)
    return centres_inside(rectangles, box).ravel()[flat.argmax(-1)]
