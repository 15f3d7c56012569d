"""What the check of patches found, written to a record and read back; a stranger's lists are trusted for nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llava_wire import Record, decode, encode
from llava_wire.findings.patches import MAX_WORDS, PatchCheck, WordPatches
from support.synthetic import make_record

WORDS = (
    WordPatches(0, (3, 4), 1.0, 0.999, 0.25, 1e-9, 0.75, 1.0, 0.9, 1.0),
    WordPatches(2, (0,), 0.1234567, 0.5, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0),
)
CHECK = PatchCheck("mean", 2, 16, 7, 3, WORDS)


def with_checks(checks: dict[str, dict[str, Any]]) -> Record:
    record = make_record(reductions=("layers_heads",))
    return replace(record, facts=replace(record.facts, checks=checks))


def plain(**changed: Any) -> dict[str, dict[str, Any]]:
    return {"patches": {"result": "measured", **CHECK.to_plain(), **changed}}


def test_it_comes_back_from_a_records_file():
    record = with_checks(plain())
    found = PatchCheck.of_checks(decode(encode(record)).facts.checks, 3, 5)
    assert found is not None
    assert (found.view, found.top, found.sets, found.seed, found.of) == ("mean", 2, 16, 7, 3)
    assert found.words[0] == WORDS[0]
    assert found.words[1].alone == pytest.approx(WORDS[1].alone, rel=1e-5)


def test_the_largest_fits_a_record():
    words = tuple(WordPatches(token, tuple(range(1000)), *[0.123456] * 8) for token in range(MAX_WORDS))
    largest = {"result": "measured", **PatchCheck("v" * 80, 1000, 256, 2**53, 200, words).to_plain()}
    record = with_checks({"self_test": {str(n): 0.5 for n in range(20)}, "patches": largest})
    assert decode(encode(record)).facts.checks["patches"] == largest


@pytest.mark.parametrize(
    "changed",
    [
        {"result": "not tested"},
        {"view": 3},
        {"sets": -1},
        {"top": True},
        {"tokens": [0]},
        {"tokens": [0, 0]},
        {"tokens": [0, 3]},
        {"tokens": [0, 2.0]},
        {"tokens": None},
        {"patches": ["3 4", "5"]},
        {"patches": ["3 4", ""]},
        {"patches": ["4 3", "0"]},
        {"patches": ["3 3", "0"]},
        {"patches": ["3 ٤", "0"]},
        {"patches": [[3, 4], [0]]},
        {"alone": [1.0, 1.5]},
        {"alone": [1.0, "1"]},
        {"hidden": [1.0, -0.1]},
        {"random_alone": [1.0, True]},
        {"random_hidden_high": []},
    ],
)
def test_what_makes_no_sense_is_no_check(changed):
    assert PatchCheck.of_checks(plain(), 3, 5) is not None
    assert PatchCheck.of_checks(plain(**changed), 3, 5) is None
    assert PatchCheck.of_checks({}, 3, 5) is None
