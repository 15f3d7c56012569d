"""Which patches of a word are tested: those of its object's box, random ones, those of real maps and of wrong ones.

Flow: words with their boxes, records with maps -> the patches of each word by its place, and what its map is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.known.tested import Answers
from llava_eval.metrics.pointing_game import peak_share
from llava_wire.choose import choose_patches
from llava_wire.findings.patches import brightest

Map = npt.NDArray[np.float32]
Patches = tuple[int, ...]
RIGHT, MISSED = "right", "missed"
WRONG = ("another object", "another scene", "transposed")
"""Maps that are wrong: of a word of the same answer that names another object, of a word about another scene, and the
word's own with rows and columns swapped."""


@dataclass(frozen=True)
class Sets:
    """Patches to test.

    Args:
        patches: place of a word -> its patches, ascending.
        maps: place of a word -> what they are the brightest patches of: `RIGHT`, `MISSED` or one of `WRONG`; empty
            where they are of no map.
    """

    patches: dict[int, Patches]
    maps: dict[int, str]


def of_box(answers: Answers, top: int, random: np.random.Generator) -> Sets:
    """The patches that each object's box covers most, equal ones in random order."""
    near = [word.box + 1e-6 * random.random(word.box.size) for word in answers.words]
    return Sets({place: brightest(one, top) for place, one in enumerate(near)}, {})


def at_random(answers: Answers, top: int, random: np.random.Generator) -> Sets:
    """Random patches of each word's own."""
    orders = [random.permutation(word.box.size)[:top] for word in answers.words]
    return Sets({place: tuple(sorted(order.tolist())) for place, order in enumerate(orders)}, {})


def own_and_wrong(answers: Answers, view: str, top: int) -> tuple[Sets, Sets]:
    """The brightest patches of each word's own map, and of a wrong one.

    An own map is right when it peaks in the object's box. Wrong ones that peak there are left out; of the others each
    word has one, the kinds in turn.
    """
    maps = [choose_patches(answers.records[word.answer].views[view])[word.token] for word in answers.words]
    own, wrong = Sets({}, {}), Sets({}, {})
    for place, word in enumerate(answers.words):
        own.maps[place] = RIGHT if peak_share(maps[place], word.inside) == 1 else MISSED
        own.patches[place] = brightest(maps[place], top)
        found = [(kind, one) for kind, one in _wrong(answers, maps, place) if peak_share(one, word.inside) == 0]
        if found:
            wrong.maps[place], one = found[place % len(found)]
            wrong.patches[place] = brightest(one, top)
    return own, wrong


def _wrong(answers: Answers, maps: list[Map], place: int) -> list[tuple[str, Map]]:
    """Maps that are not those of a word, one of each kind; a description of one object has no other."""
    word, grid = answers.words[place], answers.records[answers.words[place].answer].grids[0]
    found = {"transposed": maps[place].reshape(grid.rows, grid.cols).T.ravel()}
    for other in ((place + step) % len(maps) for step in range(1, len(maps))):
        one = answers.words[other]
        if one.scene != word.scene:
            found.setdefault("another scene", maps[other])
        elif one.index != word.index:
            found.setdefault("another object", maps[other])
    return sorted(found.items())
