"""Notes where the rows that name something peak: items and answers -> sightings, with what a misread row would show."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from llava_eval.truth import as_truth, centres_inside
from teach.peaks import centre_crop_rectangles, peaks_inside, whole_rectangles
from teach.pictures import Box

if TYPE_CHECKING:
    from teach.witness import Seen, Witness  # needs torch, which held-out scenes do not
from teach.world import Turn

_BATCH = 48
SceneT = TypeVar("SceneT")

READINGS: dict[str, tuple[int, bool]] = {
    "right row": (0, False),
    "one row late": (1, False),
    "one row early": (-1, False),
    "grid transposed": (0, True),
}
"""How a row can be misread: offset of the row, and whether rows and columns of the grid are swapped."""
CROP_IGNORED = "crop ignored"
"""The further misreading: patches laid over the whole picture instead of the square that the model saw."""


class Asked(Turn, Protocol):
    """A question of a kind, and the only right answer."""

    @property
    def kind(self) -> str: ...


class Naming(Protocol):
    """Answer token `step` names object `index` of the scene; `asked`: the question has the word too."""

    @property
    def step(self) -> int: ...
    @property
    def role(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def asked(self) -> bool: ...


@dataclass(frozen=True)
class Item(Generic[SceneT]):
    """A scene and a question about it."""

    scene: SceneT
    question: Asked


def held_out(
    seed: int,
    count: int,
    make_scene: Callable[[random.Random], SceneT],
    ask_all: Callable[[random.Random, SceneT], Iterable[Asked]],
) -> list[Item[SceneT]]:
    """`count` scenes with all that is asked of each; the same for the same seed."""
    rng = random.Random(seed)
    scenes = [make_scene(rng) for _ in range(count)]
    return [Item(scene, question) for scene in scenes for question in ask_all(rng, scene)]


@dataclass(frozen=True)
class Answer:
    """What the model said to an item."""

    item: Item[Any]
    text: str

    @property
    def right(self) -> bool:
        return self.text == self.item.question.answer


@dataclass(frozen=True)
class Sighting:
    """One naming token. Per reading, `heads` [layers, heads] bool: the peak is in a box, and `mean`: the same for the
    mean of all heads. `shares` [layers, heads] float32: what the image gets of the row. `elsewhere` [layers, heads]
    bool: the peak, moved to an unrelated scene, is in a box of its object of that number. Chances: probabilities."""

    kind: str
    naming: Naming
    heads: dict[str, np.ndarray]
    mean: dict[str, bool]
    shares: np.ndarray
    elsewhere: np.ndarray
    uniform_chance: float
    object_chance: float


@dataclass(frozen=True)
class Truth:
    """What a world knows of its scenes.

    Args:
        namings: token texts, scene, question's text -> the tokens that name an object.
        boxes: scene -> the boxes of each object, in pixels of the picture.
    """

    namings: Callable[[Sequence[str], Any, str], Sequence[Naming]]
    boxes: Callable[[Any], Sequence[Sequence[Box]]]


def look(
    witness: Witness, items: Sequence[Item[Any]], truth: Truth, say: Callable[[str], None]
) -> tuple[list[Answer], list[Sighting]]:
    """All answers, and a sighting for every token that names an object of its scene."""
    answers: list[Answer] = []
    sightings: list[Sighting] = []
    for start in range(0, len(items), _BATCH):
        batch = items[start : start + _BATCH]
        seen = witness.look([item.scene.image for item in batch], [item.question.text for item in batch])
        for item, one in zip(batch, seen, strict=True):
            stranger = items[(len(answers) + len(items) // 2) % len(items)].scene
            sightings += sightings_of(item, one, stranger, truth)
            answers.append(Answer(item, one.text))
        say(f"{len(answers)}/{len(items)} questions")
    return answers, sightings


def sightings_of(item: Item[Any], seen: Seen, stranger: Any, truth: Truth) -> list[Sighting]:
    """What one answer shows.

    Args:
        stranger: an unrelated scene.
    """
    image, boxes, grid = item.scene.image, truth.boxes(item.scene), seen.rows.shape[-1]
    rectangles = centre_crop_rectangles(image.width, image.height, grid)
    whole = whole_rectangles(image.width, image.height, grid)
    strange = centre_crop_rectangles(stranger.image.width, stranger.image.height, grid)
    there = truth.boxes(stranger)
    found = []
    for naming in truth.namings(seen.tokens, item.scene, item.question.text):
        its, heads, mean = boxes[naming.index], {}, {}
        for reading, (offset, transposed) in READINGS.items():
            maps = seen.rows[1 + naming.step + offset]
            maps = maps.swapaxes(-1, -2) if transposed else maps
            heads[reading] = peaks_inside(maps, rectangles, its)
            mean[reading] = bool(peaks_inside(maps.mean((0, 1)), rectangles, its))
        right = seen.rows[1 + naming.step]
        if image.width != image.height:
            heads[CROP_IGNORED] = peaks_inside(right, whole, its)
            mean[CROP_IGNORED] = bool(peaks_inside(right.mean((0, 1)), whole, its))
        found.append(
            Sighting(
                item.question.kind,
                naming,
                heads,
                mean,
                right.sum((-1, -2)),
                peaks_inside(right, strange, there[naming.index % len(there)]),
                float(centres_inside(rectangles, as_truth(its)).mean()),
                1 / len(boxes),
            )
        )
    return found
