"""The shipped llava-things: its published figures reach what the project promises, and fresh scenes bear them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from teach.sightings import look
from teach.witness import Witness
from things.evaluate import SUBJECT, held_out

STORE = Path(__file__).parents[3] / "model_store"
FOLDER = STORE / "llava-things"
FRESH_SEED, FRESH_SCENES = 31_337, 6


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    return json.loads((FOLDER / "evaluation.json").read_text(encoding="utf-8"))


def test_published_figures_reach_the_floors(published):
    test, exact = published["pointing game"]["test"], published["exact match"]["test"]["all"]
    assert published["scenes"]["test"]["count"] >= 300
    assert published["scenes"]["validation"]["count"] >= 150
    assert exact["value"] >= 0.90
    assert test["describe, things"]["named-thing"]["value"] >= 0.75
    assert test["describe, colours"]["named-colour"]["value"] >= 0.75


def test_published_controls_fall_where_rows_are_misread(published):
    row = published["controls, test"]["describe, things, named-thing"]
    for reading in ("one row late", "one row early", "grid transposed", "a box of another scene"):
        assert row[reading]["interval_95"][1] < row["right row"]["interval_95"][0] - 0.2, reading
    wide = row["images that are not square"]
    assert wide["crop ignored"]["interval_95"][1] < wide["right row"]["interval_95"][0]


def test_served_head_sets_are_the_frozen_heads(published):
    served = yaml.safe_load((STORE / "llava-things.yaml").read_text(encoding="utf-8"))["handler"]["head_sets"]
    assert {*served} == {*published["heads"]}
    for role, head in published["heads"].items():
        assert served[role] == [[head["layer"], head["head"]]]


def test_the_card_gives_the_published_figures(published):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for role, head in published["heads"].items():
        assert f"`{role}` (L{head['layer']}H{head['head']})" in card
    for kind, row in published["exact match"]["test"].items():
        low, high = row["interval_95"]
        assert f"| {kind} | {row['n']} | {row['value']:.3f} | {low:.3f}–{high:.3f} |" in card
    for group, row in published["pointing game"]["test"].items():
        shares = [row[name] for name in ("named-thing", "named-colour", "mean of all heads")]
        cells = [f"{one['value']:.3f} ({one['interval_95'][0]:.3f}–{one['interval_95'][1]:.3f})" for one in shares]
        assert f"| {group} | {shares[0]['n']} | {' | '.join(cells)} |" in card


def test_it_is_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 15e6


def test_fresh_scenes_bear_the_figures_out(published):
    answers, sightings = look(Witness(FOLDER), held_out(FRESH_SEED, FRESH_SCENES), SUBJECT.truth, print)
    heads = {role: (head["layer"], head["head"]) for role, head in published["heads"].items()}
    assert SUBJECT.figures.exact_match(answers)["all"]["value"] > 0.9
    figures = SUBJECT.figures.pointing_game(sightings, heads)
    assert figures["describe, things"]["named-thing"]["value"] > 0.8
    assert figures["all naming tokens"]["mean of all heads"]["value"] > 0.8
