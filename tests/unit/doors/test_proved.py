"""What is said of the families that a method was shown on: by tests that are there, in the list and on the page."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from llava_doors.door import FAMILIES, METHODS
from llava_doors.proved import proved_for
from llava_viewer.cli.listing import plain, text

ROOT = Path(__file__).parents[3]
TESTS = ROOT / "tests" / "integration"
TABLE = (ROOT / "docs" / "methods.md").read_text("utf-8").partition("\n## ")[0]
ELSEWHERE = {"llava": "bakllava", "attention": "exactness"}
"""Tests that are named otherwise than what they test."""
HOUSE = [name for name, one in METHODS.known().items() if one.implementation.startswith("llava_doors.")]


@pytest.mark.parametrize("name", HOUSE)
def test_a_second_computation_and_a_replay_are_tested(name: str) -> None:
    found = proved_for(METHODS.find(name))
    assert (TESTS / f"test_{ELSEWHERE.get(name, name)}.py").is_file()
    assert {"llava"} <= {*found["computed"]} <= {*found["replayed"]} <= {*FAMILIES.known()}
    for family in found["replayed"]:
        code = (TESTS / "families" / f"test_{ELSEWHERE.get(family, family)}.py").read_text("utf-8")
        assert "    check_methods(proof, " in code, family
    proofs = (ROOT / "tests" / "support" / "family_proofs.py").read_text("utf-8")
    assert (
        len(found["computed"]) == 1 or f"check_{({'attention': 'record', 'text_attention': 'words'})[name]}(" in proofs
    )


@pytest.mark.parametrize("name", HOUSE)
def test_the_list_and_the_page_say_it(name: str) -> None:
    method = METHODS.find(name)
    found = proved_for(method)
    assert f"  equal to a second computation for: {', '.join(found['computed'])}\n" in f"{text(method)}\n"
    assert f"  the same in a replay for: {', '.join(found['replayed'])}\n" in f"{text(method)}\n"
    assert plain(method)["families"] == {how: [*names] for how, names in found.items()}
    rows = re.findall(rf"^\| `{name}`.*\| ([^|]+) \|$", TABLE, re.MULTILINE)
    every = found["computed"] == found["replayed"]
    assert {*rows} == {"every family" if every else ", ".join(f"`{one}`" for one in found["computed"])}


def test_nothing_is_said_of_other_packages() -> None:
    other = replace(METHODS.find("attention"), implementation="my_package:Mine")
    assert proved_for(other) == {}
    assert "families" not in plain(other)
    assert "replay" not in text(other)
