"""Questions: every answer is checked against the scene by a reader of its text, not by the code that wrote it."""

import random
import re

import pytest

from shapes.questions import KINDS, ask, ask_all, ask_some
from shapes.scenes import COLOURS, SHAPES, Layout, SceneObject, make_scene

LAYOUTS = [make_scene(random.Random(seed)).layout for seed in range(60)]
COLOUR, SHAPE = f"({'|'.join(COLOURS)})", f"({'|'.join(SHAPES)})"


def things(layout: Layout, colour: str | None = None, shape: str | None = None) -> list[SceneObject]:
    return [thing for thing in layout.objects if colour in (None, thing.colour) and shape in (None, thing.shape)]


def read_describe(layout, question, answer):
    said = re.findall(f"{COLOUR} {SHAPE}", answer)
    ordered = sorted(layout.objects, key=lambda thing: thing.centre[0])
    return answer.startswith("From left to right: ") and said == [(thing.colour, thing.shape) for thing in ordered]


def read_exists(layout, question, answer):
    colour, shape = (re.search(words, question) for words in (COLOUR, SHAPE))
    asked = [word.group() for word in (colour, shape) if word]
    found = things(layout, colour and colour.group(), shape and shape.group())
    if answer.startswith("No, "):
        return not found and re.findall(f"{COLOUR}|{SHAPE}", answer) and all(word in answer for word in asked)
    named = re.fullmatch(f"Yes, there is an? {COLOUR} {SHAPE} in the image.", answer)
    return len(found) == 1 and named is not None and named.groups() == (found[0].colour, found[0].shape)


def read_shape_of(layout, question, answer):
    colour = re.search(COLOUR, question).group()
    (thing,) = things(layout, colour=colour)
    return answer == f"The {colour} object is a {thing.shape}."


def read_colour_of(layout, question, answer):
    shape = re.search(SHAPE, question).group()
    (thing,) = things(layout, shape=shape)
    return answer == f"The {shape} is {thing.colour}."


def read_where(layout, question, answer):
    colour, shape = re.search(f"{COLOUR} {SHAPE}", question).groups()
    (thing,) = things(layout, colour, shape)
    x, y = thing.centre
    height = "top" if y < layout.height_px / 2 else "bottom"
    side = "left" if x < layout.width_px / 2 else "right"
    return answer == f"The {colour} {shape} is at the {height} {side} of the image."


def read_count(layout, question, answer):
    word = re.search("(two|three|four)", answer).group()
    return ["two", "three", "four"].index(word) + 2 == len(layout.objects)


READERS = {
    "describe": read_describe,
    "exists-yes": read_exists,
    "exists-no": read_exists,
    "exists-shape": read_exists,
    "exists-colour": read_exists,
    "shape-of": read_shape_of,
    "colour-of": read_colour_of,
    "where": read_where,
    "count": read_count,
}


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_right(kind):
    rng, asked = random.Random(5), 0
    for layout in LAYOUTS * 3:
        question = ask(rng, layout, kind)
        if question is not None:
            asked += 1
            assert READERS[kind](layout, question.text, question.answer), (question, layout)
    assert asked > 60


@pytest.mark.parametrize(("kind", "start"), [("exists-yes", "Yes"), ("exists-no", "No")])
def test_verdict_is_the_kinds_own(kind, start):
    rng = random.Random(6)
    assert all(ask(rng, layout, kind).answer.startswith(start) for layout in LAYOUTS)


@pytest.mark.parametrize("kind", ["exists-shape", "exists-colour"])
def test_verdicts_are_mixed_where_the_kind_leaves_them_open(kind):
    rng = random.Random(7)
    questions = [ask(rng, layout, kind) for layout in LAYOUTS * 2]
    verdicts = {question.answer.split(",")[0] for question in questions if question}
    assert verdicts == {"Yes", "No"}


def test_an_ambiguous_question_is_not_asked():
    box = (10.0, 10.0, 40.0, 40.0)
    layout = Layout(
        (SceneObject("red", "circle", box), SceneObject("red", "square", (90.0, 10.0, 120.0, 40.0))), 192, 192
    )
    rng = random.Random(8)
    assert all(ask(rng, layout, "shape-of") is None for _ in range(20))
    assert all(ask(rng, layout, "colour-of") is not None for _ in range(20))


def test_where_is_not_asked_of_objects_on_a_middle_line():
    centred = Layout((SceneObject("red", "circle", (86.0, 20.0, 106.0, 40.0)),), 192, 192)
    assert ask(random.Random(9), centred, "where") is None


def test_ask_all_has_each_kind_once_and_ask_some_describes_first():
    rng = random.Random(10)
    for layout in LAYOUTS:
        kinds = [question.kind for question in ask_all(rng, layout)]
        assert len(kinds) == len(set(kinds)) >= 6
        some = [question.kind for question in ask_some(rng, layout, 5)]
        assert some[0] == "describe"
        assert len(some) == 5
        assert "describe" not in some[1:]
