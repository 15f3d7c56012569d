"""The things world as `teach` wants it: scenes, questions, what a patch can be, and the model's size."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from teach.world import Axis
from things.kinds import COLOURS, KINDS, PLURALS
from things.questions import COUNTS, Question, ask_all, ask_some
from things.scenes import BASE_SIDE_PX, Layout, Scene, make_scene, plan_layout

_LAYOUTS_OF_THE_CORPUS = 6000
_PLACES = ("top", "bottom", "left", "right", "above", "below")


class ThingsWorld:
    """52 kinds of things, 14 x 14 patches, 5.2 million parameters."""

    name = "llava-things"
    names = tuple(dict.fromkeys([*KINDS, *PLURALS.values(), *COLOURS]))
    looked_up = ("Yes", "No", *_PLACES, *COUNTS)
    words = (*names, *looked_up)
    facets = (("kind", 1 + len(KINDS)), ("colour", 1 + len(COLOURS)))
    mirrors: Mapping[Axis, Callable[[Layout], Layout]] = {"across": Layout.mirrored}
    seen_px, patch_px = 224, 16
    widths, layers, heads = (192, 192), (6, 6), (6, 6)
    vocabulary = 640

    def scene(self, rng: random.Random) -> Scene:
        """Most at the size that the model sees, some at twice that: what a processor shrinks is a little softer."""
        side_px = BASE_SIDE_PX if rng.random() < 0.15 else self.seen_px
        return make_scene(rng, side_px=side_px)

    def classes(self, layout: Layout) -> np.ndarray:
        colours = [*COLOURS]
        rows = [
            (1 + KINDS.index(unit.kind), 1 + colours.index(unit.colour) if unit.colour else 0) for unit in layout.units
        ]
        return np.array([(0, 0), *rows], np.int64)

    def centres(self, layout: Layout) -> np.ndarray:
        return np.array([layout.place(unit) for unit in layout.units], np.float32)

    def ask(self, rng: random.Random, layout: Layout, count: int) -> list[Question]:
        return ask_some(rng, layout, count)

    def corpus(self, rng: random.Random) -> Iterator[Question]:
        for _ in range(_LAYOUTS_OF_THE_CORPUS):
            yield from ask_all(rng, plan_layout(rng))
