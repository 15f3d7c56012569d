"""The shapes world as `teach` wants it: scenes, questions, what a patch can be, and the model's size."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

from shapes.questions import Question, ask_all, ask_some
from shapes.scenes import COLOURS, KINDS_OF_OBJECT, SHAPES, Layout, Scene, SceneObject, make_scene
from teach.world import Axis

_LAYOUTS_OF_THE_CORPUS = 1500


class ShapesWorld:
    """Six colours of five shapes, 8 x 8 patches, 1.65 million parameters."""

    name = "llava-shapes"
    names = (*COLOURS, *SHAPES)
    looked_up = ("Yes", "No", "top", "bottom", "left", "right")
    words = (*names, *looked_up)
    facets = (("colour", 1 + len(COLOURS)), ("shape", 1 + len(SHAPES)))
    mirrors: Mapping[Axis, Callable[[Layout], Layout]] = {
        "across": partial(Layout.flipped, horizontally=True, vertically=False),
        "down": partial(Layout.flipped, horizontally=False, vertically=True),
    }
    seen_px, patch_px = 96, 12
    widths, layers, heads = (128, 128), (4, 4), (4, 8)
    vocabulary = 448

    def scene(self, rng: random.Random) -> Scene:
        return make_scene(rng)

    def classes(self, layout: Layout) -> np.ndarray:
        colours = [*COLOURS]
        rows = [(1 + colours.index(thing.colour), 1 + SHAPES.index(thing.shape)) for thing in layout.objects]
        return np.array([(0, 0), *rows], np.int64)

    def centres(self, layout: Layout) -> np.ndarray:
        return np.array([layout.in_crop(thing.centre) for thing in layout.objects], np.float32)

    def ask(self, rng: random.Random, layout: Layout, count: int) -> list[Question]:
        return ask_some(rng, layout, count)

    def corpus(self, rng: random.Random) -> Iterator[Question]:
        for _ in range(_LAYOUTS_OF_THE_CORPUS):
            kinds = rng.sample(KINDS_OF_OBJECT, rng.choice((2, 3, 4)))
            points = [(rng.random(), rng.random()) for _ in kinds]
            objects = tuple(SceneObject(*kind, (x, y, x, y)) for kind, (x, y) in zip(kinds, points, strict=True))
            yield from ask_all(rng, Layout(objects, 1, 1))
