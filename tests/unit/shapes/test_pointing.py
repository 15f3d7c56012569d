"""Pointing: which token names which object, and which words are judged."""

import pytest

from shapes.pointing import judged_words, naming_tokens
from shapes.scenes import SceneObject

RED_CIRCLE = SceneObject("red", "circle", (0.0, 0.0, 24.0, 24.0))
BLUE_SQUARE = SceneObject("blue", "square", (100.0, 100.0, 150.0, 150.0))
OBJECTS = (RED_CIRCLE, BLUE_SQUARE)


def named(tokens, question=""):
    return [(one.step, one.word, one.role, one.index, one.asked) for one in naming_tokens(tokens, OBJECTS, question)]


def test_description_names_every_object_twice():
    tokens = [" From", " left", ":", " red", " circle", ",", " blue", " square", ".", "</s>"]
    assert named(tokens, "Describe the image.") == [
        (3, "red", "colour", 0, False),
        (4, "circle", "shape", 0, False),
        (6, "blue", "colour", 1, False),
        (7, "square", "shape", 1, False),
    ]


def test_shape_may_come_first_and_words_of_the_question_are_marked():
    assert named([" The", " square", " is", " blue", "."], "What colour is the square?") == [
        (1, "square", "shape", 1, True),
        (3, "blue", "colour", 1, False),
    ]


@pytest.mark.parametrize(
    "tokens",
    [
        ["No", ",", " there", " is", " no", " red", " circle"],
        ["Yes", ",", " a", " blue", " circle"],
        ["There", " are", " two"],
        ["red"],
        [],
    ],
    ids=["denied", "not in the scene", "no names", "half a name", "empty"],
)
def test_what_names_nothing(tokens):
    assert named(tokens) == []


def test_a_stray_colour_does_not_shift_the_pairs_after_it():
    assert [row[0] for row in named(["red", "blue", "square", "red", "circle"])] == [1, 2, 3, 4]


def judged(answer, kind, question, right=True):
    tokens = answer.replace(",", " ,").replace(".", " .").replace(":", " :").split()
    return [(tokens[one.step], one.group, one.index, None if one.beside is None else tokens[one.beside])
            for one in judged_words(tokens, OBJECTS, kind, question, right)]  # fmt: skip


def test_words_are_judged_by_what_they_answer_and_the_row_beside_is_about_nothing_of_theirs():
    found = judged("From left to right: red circle, blue square.", "describe", "Describe the image.")
    assert found == [
        ("red", "colour", 0, ":"),  # the token after it names the same object
        ("circle", "shape", 0, ","),
        ("blue", "colour", 1, ","),
        ("square", "shape", 1, "."),
    ]
    assert judged("The square is blue.", "colour-of", "What colour is the square?") == [
        ("square", "again", 1, "is"),
        ("blue", "what colour", 1, "."),
    ]
    assert judged("The blue object is a square.", "shape-of", "What shape is the blue object?")[1][:3] == (
        "square", "what shape", 1,
    )  # fmt: skip


def test_places_and_yes_are_about_the_object_of_the_question_in_right_answers_alone():
    where = ("The red circle is at the top left of the image.", "where", "Where is the red circle?")
    assert judged(*where) == [
        ("red", "again", 0, "The"),
        ("circle", "again", 0, "is"),
        ("top", "where", 0, "the"),
        ("left", "where", 0, "of"),
    ]
    assert [one[1] for one in judged(*where, right=False)] == ["again", "again"]
    yes = ("Yes, there is a blue square in the image.", "exists-yes", "Is there a blue square in the image?")
    assert judged(*yes)[0] == ("Yes", "yes", 1, ",")
    assert [one[1] for one in judged(*yes)] == ["yes", "again", "again"]
    assert judged("No, there is no blue square in the image.", "exists-yes", yes[2], right=False) == []
