"""Words asked about with sets of patches: what is sent, what is known already, and replies that cannot be right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llava_viewer.client.replays import scoring
from llava_viewer.client.replays.scoring import SetScores
from llava_wire.findings.sets import ALL, NAME, NONE, SetCheck
from llava_wire.record import Record
from support.synthetic import make_record

STEPS = (1, 2)


@pytest.fixture
def record() -> Record:
    return make_record(grid=4, words=(" a", " red", " circle"))


def truth(keep: np.ndarray, step: int) -> float:
    """What the model of these tests says: each shown patch makes a word a little more probable."""
    return -float((~keep * np.arange(1, keep.size + 1)).sum()) / 100 - step


class Model:
    """Answers replays with the check, and remembers what it was asked."""

    def __init__(self, change: Callable[[Record], Record] = lambda record: record) -> None:
        self.asked: list[dict[str, Any]] = []
        self._change = change

    def __call__(self, record: Record, options: Mapping[str, Any]) -> Record:
        [check] = options["check"]
        self.asked.append(check)
        keeps = {ALL: np.ones(16, bool), NONE: np.zeros(16, bool)}
        for which in ("shown", "hidden"):
            for number, places in check.get(which, {}).items():
                keeps[number] = np.isin(np.arange(16), places) == (which == "shown")
        found = {name: tuple(truth(keep, step) for step in check["steps"]) for name, keep in keeps.items()}
        plain = {"result": "measured", **SetCheck(tuple(check["steps"]), found).to_plain()}
        return self._change(replace(record, facts=replace(record.facts, checks={NAME: plain})))


def sets(count: int) -> np.ndarray:
    keep: np.ndarray = np.random.default_rng(3).random((count, 16)) < 0.5
    return keep


def test_a_word_and_a_phrase_get_their_probabilities_in_the_order_of_the_sets(record: Record) -> None:
    keep = np.concatenate([sets(9), np.ones((1, 16), bool), np.zeros((1, 16), bool)])
    asked = SetScores(Model(), record, STEPS)
    np.testing.assert_allclose(asked.of([2]).log_probs(keep), [truth(one, 2) for one in keep], rtol=1e-6)
    together = [truth(one, 1) + truth(one, 2) for one in keep]
    np.testing.assert_allclose(asked.of(STEPS).log_probs(keep), together, rtol=1e-6)


def test_each_set_is_asked_once_whatever_word_it_is_for(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "MAX_SETS", 4)
    model, keep = Model(), sets(10)
    asked = SetScores(model, record, STEPS)
    asked.of([1]).log_probs(np.concatenate([keep, keep[:3]]))
    asked.of([2]).log_probs(keep[::-1])
    assert [len(one.get("shown", {})) + len(one.get("hidden", {})) for one in model.asked] == [4, 4, 2]
    listed = [places for one in model.asked for which in ("shown", "hidden") for places in one.get(which, {}).values()]
    assert max(map(len, listed)) <= 8


def test_what_comes_with_every_check_is_not_named(record: Record) -> None:
    model = Model()
    ends = np.array([[True] * 16, [False] * 16])
    found = SetScores(model, record, [1]).of([1]).log_probs(ends)
    np.testing.assert_allclose(found, [-1, truth(ends[1], 1)], rtol=1e-6)
    assert len(model.asked) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record: replace(record, facts=replace(record.facts, checks={})), "no such check in the reply"),
        (
            lambda record: replace(
                record, facts=replace(record.facts, checks={NAME: {"result": "not tested", "reason": "late"}})
            ),
            "got late",
        ),
        (lambda record: make_record(grid=4, words=(" a", " blue", " circle")), "differs from the record"),
    ],
)
def test_replies_that_cannot_be_right_are_refused(
    change: Callable[[Record], Record], said: str, record: Record
) -> None:
    with pytest.raises(ValueError, match=said):
        SetScores(Model(change), record, STEPS).of([1]).log_probs(sets(2))


def test_a_token_counts_once(record: Record) -> None:
    for steps in ([1, 1], [0], [3]):
        with pytest.raises(ValueError, match="expected tokens of"):
            SetScores(Model(), record, STEPS).of(steps)


def test_wrong_questions_are_refused(record: Record) -> None:
    for steps in ([], [4], [-1]):
        with pytest.raises(ValueError, match="steps: got"):
            SetScores(Model(), record, steps)
    with pytest.raises(ValueError, match=r"keep: got \[2, 15\]"):
        SetScores(Model(), record, [1]).of([1]).log_probs(np.ones((2, 15), bool))


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": [1.0]},
        {"steps": [True]},
        {"logprobs": {"all": "-1 -1"}},
        {"logprobs": {"all": "-1", "none": "-1"}},
        {"logprobs": {"all": "-1 -1", "none": "-1 0.5"}},
        {"logprobs": {"all": "-1 -1", "none": "-1 nan"}},
        {"logprobs": {"all": "-1 -1", "none": "-1 x"}},
        {"logprobs": {"all": "-1 -1", "none": [-1, -1]}},
        {"logprobs": ["-1 -1"]},
        {"result": "not tested"},
    ],
)
def test_a_check_that_makes_no_sense_is_none(wrong: dict[str, Any]) -> None:
    right = {"result": "measured", **SetCheck((1, 2), {ALL: (-0.5, -1e-9), NONE: (-20.25, -3.0)}).to_plain()}
    assert SetCheck.of_checks({NAME: right}) == SetCheck((1, 2), {ALL: (-0.5, -1e-9), NONE: (-20.25, -3.0)})
    assert SetCheck.of_checks({NAME: {**right, **wrong}}) is None
    assert SetCheck.of_checks({}) is None
