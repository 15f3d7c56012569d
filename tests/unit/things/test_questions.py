"""Questions about things: every answer is true of the boxes, told independently of how it was made."""

from __future__ import annotations

import random
import re

import pytest

from things.kinds import COLOURS, KINDS, PLURALS
from things.naming import naming_tokens
from things.questions import COUNTS, QUESTIONS, ask, ask_all, ask_some
from things.scenes import Layout, Unit, make_scene, plan_layout

LAYOUTS = [plan_layout(random.Random(seed)) for seed in range(400)]
SINGULAR = {plural: kind for kind, plural in PLURALS.items()} | {kind: kind for kind in KINDS}


def unit(kind: str, x: float, y: float, count: int = 1, colour: str | None = None, size: float = 0.2) -> Unit:
    boxes = tuple((x - 0.1 + step * 0.2, y - 0.1, x + 0.1 + step * 0.2, y + 0.1) for step in range(count))
    return Unit(kind, colour, boxes, size)


def turns(kind: str) -> list[tuple[Layout, str, str]]:
    """Questions and answers of a kind about many layouts."""
    asked = [(layout, ask(random.Random(number), layout, kind)) for number, layout in enumerate(LAYOUTS)]
    found = [(layout, turn.text, turn.answer) for layout, turn in asked if turn]
    assert len(found) > 20
    return found


def kinds_in(text: str) -> list[str]:
    return [SINGULAR[word] for word in re.findall(r"[a-z]+", text.lower()) if word in SINGULAR]


def test_the_sentences_of_a_description():
    dog, car = unit("dog", 0.2, 0.5), unit("car", 0.7, 0.5, colour="red")
    birds = unit("bird", 0.45, 0.1, count=2)

    def said(*units: Unit) -> str:
        return ask(random.Random(0), Layout(units, 1, 1), "describe").answer

    assert said(dog) == "A dog."
    assert said(dog, car) == "A dog on the left of a red car."
    assert said(unit("dog", 0.4, 0.2), unit("owl", 0.5, 0.8)) == "A dog above an owl."
    assert said(dog, birds, car) == "A dog on the left of a red car, and two birds above."
    assert said(dog, unit("key", 0.4, 0.5), car, unit("sun", 0.9, 0.2)) == (
        "From left to right: a dog, a key, a red car and a sun."
    )


@pytest.mark.parametrize("kind", ["describe", "list"])
def test_everything_is_named_once_with_its_number(kind):
    for layout, _, answer in turns(kind):
        assert sorted(kinds_in(answer)) == sorted(one.kind for one in layout.units)
        for one in layout.units:
            word = PLURALS[one.kind] if one.count > 1 else one.kind
            number = COUNTS[one.count] if one.count > 1 else ("an" if one.name[0] in "aeiou" else "a")
            colour = f"{one.colour} " if one.colour else ""
            assert f"{number} {colour}{word}" in answer.lower()


@pytest.mark.parametrize(
    ("kind", "axis", "sign"), [("left-of", 0, -1), ("right-of", 0, 1), ("above", 1, -1), ("below", 1, 1)]
)
def test_what_is_said_to_be_beside_is_there_alone(kind, axis, sign):
    for layout, text, answer in turns(kind):
        [of] = kinds_in(text)
        [said, again] = kinds_in(answer)
        assert again == of
        places = {one.kind: layout.place(one)[axis] * sign for one in layout.units}
        assert [one for one in places if places[one] > places[of]] == [said]


def test_numbers_are_counted():
    for layout, text, answer in turns("how-many") + turns("how-many-of-none"):
        [kind] = kinds_in(text)
        count = sum(one.count for one in layout.units if one.kind == kind)
        assert f" {COUNTS[count]} " in answer
    for layout, _, answer in turns("in-all"):
        assert f" {COUNTS[layout.things]} thing" in answer


def test_yes_and_no_are_true():
    for layout, text, answer in turns("exists-yes") + turns("exists-no") + turns("another-colour"):
        [kind] = kinds_in(text)
        colours = [word for word in re.findall(r"[a-z]+", text) if word in COLOURS]
        there = [one for one in layout.units if one.kind == kind and colours in ([], [one.colour])]
        assert answer.startswith("Yes" if there else "No")


def test_places_sizes_and_colours_are_true():
    for layout, text, answer in turns("where"):
        [kind] = kinds_in(text)
        x, y = next(layout.place(one) for one in layout.units if one.kind == kind)
        assert answer.endswith(f" at the {'top' if y < 0.5 else 'bottom'} {'left' if x < 0.5 else 'right'}.")
    for layout, _, answer in turns("largest"):
        [kind] = kinds_in(answer)
        assert kind == max(layout.units, key=lambda one: one.size).kind
    for layout, text, answer in turns("colour"):
        [kind] = kinds_in(text)
        assert answer.endswith(f" {next(one.colour for one in layout.units if one.kind == kind)}.")


def test_training_turns_begin_with_a_description_and_all_kinds_come():
    rng, seen = random.Random(1), set()
    for layout in LAYOUTS[:150]:
        kinds = [turn.kind for turn in ask_some(rng, layout, 6)]
        assert kinds[0] == "describe"
        assert "describe" not in kinds[1:]
        seen |= {*kinds}
    assert seen == {*QUESTIONS}


def test_a_naming_token_names_its_unit():
    units = (unit("dog", 0.2, 0.5, count=2), unit("car", 0.7, 0.5, colour="red"))
    told = ["Two", " dogs", " on", " the", " left", " of", " a", " red", " car", ",", " a", " blue", " cat", "."]
    found = [(one.step, one.word, one.role, one.index, one.asked) for one in naming_tokens(told, units, "A dog?")]
    assert found == [(1, "dogs", "thing", 0, True), (7, "red", "colour", 1, False), (8, "car", "thing", 1, False)]
    said = ["The", " car", " is", " red", "."]
    assert [(one.step, one.role) for one in naming_tokens(said, units)] == [(1, "thing"), (3, "colour")]
    assert naming_tokens([" car", " is", " blue"], units)[-1].word == "car"


def test_scenes_allow_what_they_are_asked():
    for seed in range(5):
        scene = make_scene(random.Random(seed), side_px=224)
        assert {turn.kind for turn in ask_all(random.Random(0), scene.layout)} >= {"describe", "list", "in-all"}
