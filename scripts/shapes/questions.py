"""Asks about a layout and answers from it: Layout + kind -> Question, or None where the scene does not allow the kind.

"Describe" has no articles on purpose: the row that predicts a colour word must then itself find the next object.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from shapes.scenes import COLOURS, KINDS_OF_OBJECT, SHAPES, Layout, SceneObject

_COUNT_WORDS = {2: "two", 3: "three", 4: "four"}
_LEAST_OFF_CENTRE = 0.06  # of the short side: nearer to a middle line "left" and "right" would be guesses
_SHARE_YES = 0.6
_SHARE_HARD = 0.6


@dataclass(frozen=True)
class Question:
    """One turn: what is asked, and the only right answer."""

    kind: str
    text: str
    answer: str


Asker = Callable[[random.Random, Layout], tuple[str, str] | None]


def ask(rng: random.Random, layout: Layout, kind: str) -> Question | None:
    """One question of a kind, or None where the layout does not allow it (say, no shape that occurs only once)."""
    turn = _ASKERS[kind](rng, layout)
    return None if turn is None else Question(kind, *turn)


def ask_all(rng: random.Random, layout: Layout) -> list[Question]:
    """One question of every kind that the layout allows."""
    asked = (ask(rng, layout, kind) for kind in KINDS)
    return [question for question in asked if question is not None]


def ask_some(rng: random.Random, layout: Layout, count: int) -> list[Question]:
    """`count` turns for training: "describe" first and once, then kinds by their weights."""
    turns = [_must_ask(rng, layout, "describe")]
    kinds = [kind for kind in KINDS if kind != "describe"]
    weights = [_WEIGHTS[kind] for kind in kinds]
    while len(turns) < count:
        question = ask(rng, layout, rng.choices(kinds, weights)[0])
        if question is not None:
            turns.append(question)
    return turns


def _must_ask(rng: random.Random, layout: Layout, kind: str) -> Question:
    question = ask(rng, layout, kind)
    if question is None:
        raise ValueError(f"every layout must allow {kind!r}")
    return question


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _named(thing: SceneObject) -> str:
    return f"{_article(thing.colour)} {thing.name}"


def _one_of_its_colour(rng: random.Random, layout: Layout) -> SceneObject | None:
    colours = [thing.colour for thing in layout.objects]
    alone = [thing for thing in layout.objects if colours.count(thing.colour) == 1]
    return rng.choice(alone) if alone else None


def _one_of_its_shape(rng: random.Random, layout: Layout) -> SceneObject | None:
    shapes = [thing.shape for thing in layout.objects]
    alone = [thing for thing in layout.objects if shapes.count(thing.shape) == 1]
    return rng.choice(alone) if alone else None


def _describe(rng: random.Random, layout: Layout) -> tuple[str, str]:
    return "Describe the image.", f"From left to right: {', '.join(thing.name for thing in layout.objects)}."


def _exists_yes(rng: random.Random, layout: Layout) -> tuple[str, str]:
    named = _named(rng.choice(layout.objects))
    return f"Is there {named} in the image?", f"Yes, there is {named} in the image."


def _exists_no(rng: random.Random, layout: Layout) -> tuple[str, str]:
    colour, shape = rng.choice(_absent(rng, layout))
    return (
        f"Is there {_article(colour)} {colour} {shape} in the image?",
        f"No, there is no {colour} {shape} in the image.",
    )


def _absent(rng: random.Random, layout: Layout) -> list[tuple[str, str]]:
    """Objects to deny. The hard ones share a colour, a shape or both with what is there: half knowledge fails them."""
    colours = {thing.colour for thing in layout.objects}
    shapes = {thing.shape for thing in layout.objects}
    present = {(thing.colour, thing.shape) for thing in layout.objects}
    absent = [kind for kind in KINDS_OF_OBJECT if kind not in present]
    both = [(colour, shape) for colour, shape in absent if colour in colours and shape in shapes]
    one = [(colour, shape) for colour, shape in absent if (colour in colours) != (shape in shapes)]
    neither = [(colour, shape) for colour, shape in absent if colour not in colours and shape not in shapes]
    draw = rng.random()
    if draw < _SHARE_HARD:
        return both if both and draw < _SHARE_HARD / 2 else one
    return neither or absent


def _exists_shape(rng: random.Random, layout: Layout) -> tuple[str, str] | None:
    if rng.random() < _SHARE_YES:
        thing = _one_of_its_shape(rng, layout)
        if thing is None:
            return None
        return f"Is there a {thing.shape} in the image?", f"Yes, there is {_named(thing)} in the image."
    shape = rng.choice([shape for shape in SHAPES if all(thing.shape != shape for thing in layout.objects)])
    return f"Is there a {shape} in the image?", f"No, there is no {shape} in the image."


def _exists_colour(rng: random.Random, layout: Layout) -> tuple[str, str] | None:
    if rng.random() < _SHARE_YES:
        thing = _one_of_its_colour(rng, layout)
        if thing is None:
            return None
        return f"Is there anything {thing.colour} in the image?", f"Yes, there is {_named(thing)} in the image."
    colour = rng.choice([colour for colour in COLOURS if all(thing.colour != colour for thing in layout.objects)])
    return f"Is there anything {colour} in the image?", f"No, there is nothing {colour} in the image."


def _shape_of(rng: random.Random, layout: Layout) -> tuple[str, str] | None:
    thing = _one_of_its_colour(rng, layout)
    if thing is None:
        return None
    return f"What shape is the {thing.colour} object?", f"The {thing.colour} object is a {thing.shape}."


def _colour_of(rng: random.Random, layout: Layout) -> tuple[str, str] | None:
    thing = _one_of_its_shape(rng, layout)
    if thing is None:
        return None
    return f"What colour is the {thing.shape}?", f"The {thing.shape} is {thing.colour}."


def _where(rng: random.Random, layout: Layout) -> tuple[str, str] | None:
    clear = []
    for thing in layout.objects:
        across, down = (part - 0.5 for part in layout.in_crop(thing.centre))
        if min(abs(across), abs(down)) > _LEAST_OFF_CENTRE:
            clear.append((thing, "top" if down < 0 else "bottom", "left" if across < 0 else "right"))
    if not clear:
        return None
    thing, height, side = rng.choice(clear)
    return f"Where is the {thing.name}?", f"The {thing.name} is at the {height} {side} of the image."


def _count(rng: random.Random, layout: Layout) -> tuple[str, str]:
    return "How many objects are in the image?", f"There are {_COUNT_WORDS[len(layout.objects)]} objects in the image."


_ASKERS: dict[str, Asker] = {
    "describe": _describe,
    "exists-yes": _exists_yes,
    "exists-no": _exists_no,
    "exists-shape": _exists_shape,
    "exists-colour": _exists_colour,
    "shape-of": _shape_of,
    "colour-of": _colour_of,
    "where": _where,
    "count": _count,
}
KINDS: tuple[str, ...] = tuple(_ASKERS)
# How often a training turn after the first is of a kind: more where the prototype of this recipe erred more.
_WEIGHTS: dict[str, float] = {
    "exists-yes": 1.5,
    "exists-no": 1.5,
    "exists-shape": 1.0,
    "exists-colour": 1.0,
    "shape-of": 1.2,
    "colour-of": 1.2,
    "where": 1.5,
    "count": 0.4,
}
