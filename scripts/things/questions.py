"""Asks about a layout in plain English and answers from it: Layout + kind -> Question, or None where the scene does not
allow the kind.

Whatever a question turns on (left or right, above, larger, at the top) is clear in the scenes that it is asked about:
where two people could differ, it is not asked.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from things.kinds import COLOURED, COLOURS, KINDS, PLURALS, article
from things.scenes import Layout, Unit

COUNTS = ("no", "one", "two", "three", "four", "five")
_CLEARLY_ABOVE = 0.13
"""Between centres, of the short side."""
_LEAST_OFF_CENTRE = 0.07
_LARGER = 1.3


@dataclass(frozen=True)
class Question:
    """One turn: what is asked, and the only right answer."""

    kind: str
    text: str
    answer: str


Turn = tuple[str, str]
Asker = Callable[[random.Random, Layout], Turn | None]


def ask(rng: random.Random, layout: Layout, kind: str) -> Question | None:
    """One question of a kind, or None where the layout does not allow it."""
    turn = _ASKERS[kind](rng, layout)
    return None if turn is None else Question(kind, *turn)


def ask_all(rng: random.Random, layout: Layout) -> list[Question]:
    """One question of every kind that the layout allows."""
    asked = (ask(rng, layout, kind) for kind in QUESTIONS)
    return [question for question in asked if question is not None]


def ask_some(rng: random.Random, layout: Layout, count: int) -> list[Question]:
    """`count` turns for training: "describe" first and once, then kinds by their weights."""
    first = ask(rng, layout, "describe")
    assert first is not None
    turns, kinds = [first], [*_WEIGHTS]
    while len(turns) < count:
        question = ask(rng, layout, rng.choices(kinds, [*_WEIGHTS.values()])[0])
        if question is not None:
            turns.append(question)
    return turns


def called(unit: Unit) -> str:
    """The words for a unit inside a description: "dog", "red umbrella", "birds"."""
    if unit.count == 1:
        return unit.name
    return f"{unit.colour} {PLURALS[unit.kind]}" if unit.colour else PLURALS[unit.kind]


def named(unit: Unit) -> str:
    """A unit as a description names it: "a dog", "a red umbrella", "two birds"."""
    return f"{article(unit.name) if unit.count == 1 else COUNTS[unit.count]} {called(unit)}"


def _the(unit: Unit) -> str:
    """A unit that is known: "the dog", "the birds"."""
    return "the " + (unit.kind if unit.count == 1 else PLURALS[unit.kind])


def _are(unit: Unit) -> str:
    return "is" if unit.count == 1 else "are"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _listed(units: tuple[Unit, ...]) -> str:
    names = [named(unit) for unit in units]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _beside(layout: Layout, one: Unit, other: Unit) -> str:
    """How `one` stands to `other`, which is further right."""
    (x, y), (x2, y2) = layout.place(one), layout.place(other)
    if abs(x2 - x) >= abs(y2 - y):
        return "on the left of"
    return "above" if y < y2 else "below"


def _describe(rng: random.Random, layout: Layout) -> Turn:
    units, question = layout.units, "Describe the image."
    if len(units) == 1:
        return question, _sentence(named(units[0]))
    if len(units) == 2:
        return question, _sentence(f"{named(units[0])} {_beside(layout, *units)} {named(units[1])}")
    if len(units) == 3 and (found := _apart_from_two(layout)):
        third, word = found
        one, other = (unit for unit in units if unit is not third)
        return question, _sentence(
            f"{named(one)} {_beside(layout, one, other)} {named(other)}, and {named(third)} {word}"
        )
    return question, f"From left to right: {_listed(units)}."


def _apart_from_two(layout: Layout) -> tuple[Unit, str] | None:
    """The one of three that is clearly above both others, else the one that is below."""
    down = sorted(layout.units, key=lambda unit: layout.place(unit)[1])
    heights = [layout.place(unit)[1] for unit in down]
    if heights[1] - heights[0] > LINE:
        return down[0], "above"
    return (down[2], "below") if heights[2] - heights[1] > LINE else None


LINE = 0.19
"""Of the short side: what is more than this above two others is said to be above them; no scene is near it."""


def _list(rng: random.Random, layout: Layout) -> Turn:
    return "What is in the image?", _sentence(_listed(layout.units))


def _left_of(rng: random.Random, layout: Layout) -> Turn | None:
    if len(layout.units) < 2:
        return None
    one, other = layout.units[:2]
    return f"What is on the left of {_the(other)}?", _sentence(f"{named(one)} {_are(one)} on the left of {_the(other)}")


def _right_of(rng: random.Random, layout: Layout) -> Turn | None:
    if len(layout.units) < 2:
        return None
    other, one = layout.units[-2:]
    return f"What is on the right of {_the(other)}?", _sentence(
        f"{named(one)} {_are(one)} on the right of {_the(other)}"
    )


def _above(rng: random.Random, layout: Layout) -> Turn | None:
    return _up_or_down(rng, layout, 1, "above")


def _below(rng: random.Random, layout: Layout) -> Turn | None:
    return _up_or_down(rng, layout, -1, "below")


def _up_or_down(rng: random.Random, layout: Layout, sign: int, word: str) -> Turn | None:
    """Asks about a unit that has one other clearly above (below) it, and none that may or may not be."""
    fitting = []
    for unit in layout.units:
        height = layout.place(unit)[1]
        gaps = [(sign * (height - layout.place(other)[1]), other) for other in layout.units if other is not unit]
        clear = [other for gap, other in gaps if gap > _CLEARLY_ABOVE]
        if len(clear) == 1 and all(gap > _CLEARLY_ABOVE or gap < 0 for gap, _ in gaps):
            fitting.append((unit, clear[0]))
    if not fitting:
        return None
    unit, other = rng.choice(fitting)
    return f"What is {word} {_the(unit)}?", _sentence(f"{named(other)} {_are(other)} {word} {_the(unit)}")


def _how_many(rng: random.Random, layout: Layout) -> Turn:
    several = [unit for unit in layout.units if unit.count > 1]
    unit = rng.choice(several if several and rng.random() < 0.5 else layout.units)
    words = unit.kind if unit.count == 1 else PLURALS[unit.kind]
    return f"How many {PLURALS[unit.kind]} are there?", f"There {_are(unit)} {COUNTS[unit.count]} {words}."


def _how_many_of_none(rng: random.Random, layout: Layout) -> Turn:
    plural = PLURALS[_absent(rng, layout)]
    return f"How many {plural} are there?", f"There are no {plural}."


def _in_all(rng: random.Random, layout: Layout) -> Turn:
    count = layout.things
    are, things = ("is", "thing") if count == 1 else ("are", "things")
    return "How many things are there in all?", f"There {are} {COUNTS[count]} {things}."


def _exists_yes(rng: random.Random, layout: Layout) -> Turn:
    unit = rng.choice(layout.units)
    if unit.count == 1:
        name = unit.name if rng.random() < 0.5 else unit.kind
        return f"Is there {article(name)} {name}?", f"Yes, there is {article(name)} {name}."
    plural = PLURALS[unit.kind]
    return f"Are there any {plural}?", f"Yes, there are {COUNTS[unit.count]} {plural}."


def _exists_no(rng: random.Random, layout: Layout) -> Turn:
    kind = _absent(rng, layout)
    if rng.random() < 0.4:
        return f"Are there any {PLURALS[kind]}?", f"No, there are no {PLURALS[kind]}."
    name = f"{rng.choice([*COLOURS])} {kind}" if kind in COLOURED and rng.random() < 0.5 else kind
    return f"Is there {article(name)} {name}?", f"No, there is no {name}."


def _exists_in_another_colour(rng: random.Random, layout: Layout) -> Turn | None:
    fitting = [unit for unit in layout.units if unit.colour and unit.count == 1]
    if not fitting:
        return None
    unit = rng.choice(fitting)
    name = f"{rng.choice([colour for colour in COLOURS if colour != unit.colour])} {unit.kind}"
    return f"Is there {article(name)} {name}?", f"No, the {unit.kind} is {unit.colour}."


def _where(rng: random.Random, layout: Layout) -> Turn | None:
    clear = []
    for unit in layout.units:
        across, down = (part - 0.5 for part in layout.place(unit))
        if min(abs(across), abs(down)) > _LEAST_OFF_CENTRE:
            clear.append((unit, "top" if down < 0 else "bottom", "left" if across < 0 else "right"))
    if not clear:
        return None
    unit, height, side = rng.choice(clear)
    return f"Where {_are(unit)} {_the(unit)}?", _sentence(f"{_the(unit)} {_are(unit)} at the {height} {side}")


def _largest(rng: random.Random, layout: Layout) -> Turn | None:
    if len(layout.units) < 2:
        return None
    first, second = sorted(layout.units, key=lambda unit: -unit.size)[:2]
    if first.count > 1 or first.size < _LARGER * second.size:
        return None
    return "Which thing is the largest?", _sentence(f"the largest thing is {_the(first)}")


def _colour(rng: random.Random, layout: Layout) -> Turn | None:
    fitting = [unit for unit in layout.units if unit.colour]
    if not fitting:
        return None
    unit = rng.choice(fitting)
    return f"What colour {_are(unit)} {_the(unit)}?", _sentence(f"{_the(unit)} {_are(unit)} {unit.colour}")


def _absent(rng: random.Random, layout: Layout) -> str:
    present = {unit.kind for unit in layout.units}
    return rng.choice([kind for kind in KINDS if kind not in present])


_ASKERS: dict[str, Asker] = {
    "describe": _describe,
    "list": _list,
    "left-of": _left_of,
    "right-of": _right_of,
    "above": _above,
    "below": _below,
    "how-many": _how_many,
    "how-many-of-none": _how_many_of_none,
    "in-all": _in_all,
    "exists-yes": _exists_yes,
    "exists-no": _exists_no,
    "another-colour": _exists_in_another_colour,
    "where": _where,
    "largest": _largest,
    "colour": _colour,
}
QUESTIONS: tuple[str, ...] = tuple(_ASKERS)
_WEIGHTS: dict[str, float] = {
    "list": 1.2, "left-of": 1.2, "right-of": 1.2, "above": 1.2, "below": 1.2, "how-many": 1.4, "how-many-of-none": 0.7,
    "in-all": 0.8, "exists-yes": 1.2, "exists-no": 1.2, "another-colour": 0.8, "where": 1.4, "largest": 1.0,
    "colour": 0.8,
}  # fmt: skip
"""How often a training turn after the first is of a kind."""
