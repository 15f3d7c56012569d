"""The shipped model: its published figures reach what the project promises, and fresh scenes bear them out."""

import json
from pathlib import Path

import pytest
import yaml

from shapes.evaluate import FIGURES, SUBJECT
from shapes.sightings import held_out
from teach.sightings import look
from teach.witness import Witness

STORE = Path(__file__).parents[3] / "model_store"
FOLDER = STORE / "llava-shapes"
FRESH_SEED, FRESH_SCENES = 31_337, 20


@pytest.fixture(scope="module")
def published() -> dict:
    return json.loads((FOLDER / "evaluation.json").read_text(encoding="utf-8"))


def test_published_figures_reach_the_floors(published):
    test, exact = published["pointing game"]["test"], published["exact match"]["test"]["all"]
    assert published["scenes"]["test"]["count"] >= 300
    assert published["scenes"]["validation"]["count"] >= 150
    assert exact["value"] >= 0.95
    assert test["describe, colour words"]["next-object"]["value"] >= 0.80
    assert test["describe, shape words"]["named-object"]["value"] >= 0.80
    assert test["all naming tokens"]["mean of all heads"]["value"] >= 0.74


def test_published_controls_fall_where_rows_are_misread(published):
    row = published["controls, test"]["describe, colour words, next-object"]
    for reading in ("one row late", "one row early", "grid transposed"):
        assert row[reading]["value"] < 0.55, reading


def test_served_head_sets_are_the_frozen_heads(published):
    served = yaml.safe_load((STORE / "llava-shapes.yaml").read_text(encoding="utf-8"))["handler"]["head_sets"]
    for role, head in published["heads"].items():
        assert served[role] == [[head["layer"], head["head"]]]


def test_the_card_gives_the_published_figures(published):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for role, head in published["heads"].items():
        assert f"`{role}` (L{head['layer']}H{head['head']})" in card
    for kind, row in published["exact match"]["test"].items():
        low, high = row["interval_95"]
        assert f"| {kind} | {row['n']} | {row['value']:.3f} | {low:.3f}–{high:.3f} |" in card


def test_fresh_scenes_bear_the_figures_out(published):
    answers, sightings = look(Witness(FOLDER), held_out(FRESH_SEED, FRESH_SCENES), SUBJECT.truth, print)
    heads = {role: (head["layer"], head["head"]) for role, head in published["heads"].items()}
    assert FIGURES.exact_match(answers)["all"]["value"] > 0.9
    figures = FIGURES.pointing_game(sightings, heads)
    assert figures["describe, colour words"]["next-object"]["value"] > 0.65
    assert figures["describe, shape words"]["named-object"]["value"] > 0.65
    assert figures["all naming tokens"]["mean of all heads"]["value"] > 0.65
