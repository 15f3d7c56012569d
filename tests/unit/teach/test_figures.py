"""Figures: heads are chosen by role on the right rows alone, and every share counts what it says."""

from __future__ import annotations

import random

import numpy as np
import pytest

from shapes.evaluate import FIGURES
from shapes.pointing import Naming
from shapes.questions import ask_all
from shapes.scenes import make_scene
from teach.sightings import CROP_IGNORED, READINGS, Answer, Item, Sighting

LAYERS, HEADS = 2, 3


def sighting(role: str, right: set, late: set = frozenset(), kind: str = "describe", asked: bool = False) -> Sighting:
    """A naming token whose peak is in the box for the (layer, head) pairs in `right`, and one row late in `late`."""

    def marks(pairs) -> np.ndarray:
        found = np.zeros((LAYERS, HEADS), bool)
        for pair in pairs:
            found[pair] = True
        return found

    heads = {reading: marks(set()) for reading in READINGS} | {"right row": marks(right), "one row late": marks(late)}
    mean = {reading: reading == "right row" for reading in READINGS}
    shares = np.full((LAYERS, HEADS), 0.5, np.float32)
    return Sighting(kind, Naming(0, "red", role, 0, asked), heads, mean, shares, marks({(0, 0)}), 0.1, 0.5)


COLOURS_SEEN = [sighting("colour", {(1, 2)}, late={(0, 0)})] * 3 + [sighting("colour", {(0, 0)}, late={(0, 0)})]
SHAPES_SEEN = [sighting("shape", {(0, 1), (1, 2)}), sighting("shape", {(0, 1)}, asked=True)]
SEEN = COLOURS_SEEN + SHAPES_SEEN


def test_heads_are_chosen_by_role_and_not_by_a_shifted_row():
    assert FIGURES.choose_heads(SEEN) == {"next-object": (1, 2), "named-object": (0, 1)}


def test_pointing_counts_the_frozen_heads_in_each_group():
    figures = FIGURES.pointing_game(SEEN, {"next-object": (1, 2), "named-object": (0, 1)})
    colours = figures["describe, colour words"]
    assert (colours["next-object"]["value"], colours["next-object"]["n"]) == (0.75, 4)
    assert colours["named-object"]["value"] == 0
    assert colours["mean of all heads"]["value"] == 1
    assert colours["every head [layer][head]"] == [[0.25, 0, 0], [0, 0, 0.75]]
    assert colours["image share of the row"]["mean of all heads"] == 0.5
    assert colours["chance"] == {"a uniform patch": 0.1, "a random object's box": 0.5}
    assert figures["all naming tokens"]["next-object"]["n"] == 6
    assert figures["words in the question"]["next-object"]["n"] == 1
    assert "where" not in figures, "a group that nothing falls in has no figures"
    assert set(figures) < set(FIGURES.groups)


def test_controls_read_the_wrong_rows_with_the_same_heads():
    figures = FIGURES.controls(SEEN, {"next-object": (0, 0), "named-object": (0, 1)})
    row = figures["describe, colour words, next-object"]
    assert {reading: row[reading]["value"] for reading in READINGS} == {
        "right row": 0.25,
        "one row late": 1.0,
        "one row early": 0.0,
        "grid transposed": 0.0,
    }
    assert row["a box of another scene"]["value"] == 1
    assert figures["all naming tokens, mean of all heads"]["one row late"]["value"] == 0
    assert "images that are not square" not in row, "none of these is"


def test_controls_lay_the_patches_over_the_whole_of_images_that_are_not_square():
    wide = sighting("colour", {(0, 0)})
    wide.heads[CROP_IGNORED] = np.zeros((LAYERS, HEADS), bool)
    row = FIGURES.controls([*SEEN, wide], {"next-object": (0, 0), "named-object": (0, 1)})
    figures = row["describe, colour words, next-object"]["images that are not square"]
    assert {reading: (one["value"], one["n"]) for reading, one in figures.items()} == {
        "right row": (1.0, 1),
        CROP_IGNORED: (0.0, 1),
    }


def test_exact_match_is_letter_for_letter_and_by_kind():
    scene = make_scene(random.Random(0))
    questions = ask_all(random.Random(1), scene.layout)
    answers = [Answer(Item(scene, question), question.answer) for question in questions]
    spoilt = Answer(answers[0].item, answers[0].text.replace(".", ""))
    figures = FIGURES.exact_match([*answers, *answers[1:], spoilt])
    assert figures["describe"]["value"] == 0.5
    assert figures["all"]["n"] == 2 * len(answers)
    assert figures["all"]["value"] == pytest.approx(1 - 1 / (2 * len(answers)), abs=1e-4)
