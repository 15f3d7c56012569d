"""The soak's judge: right answers pass, and each kind of wrong one is named; nothing counts as right by default."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llava_wire import Record, RequestError
from stress.soaking.cases import Case, difference, shortened_difference
from stress.soaking.ledger import HUNG, WRONG, Ledger
from stress.soaking.senders import failed, judged
from support.synthetic import make_record

TRUTH = make_record(words=("A", " red", " dot"), reductions=("layers_heads", "none"), with_picture=False)
CASE = Case("case", {}, {}, TRUTH)


def with_maps(change: float) -> Record:
    """The truth with one number of its last view changed."""
    name, view = list(TRUTH.views.items())[-1]
    maps = view.maps_float().copy()
    maps.flat[-1] += change
    return replace(
        TRUTH,
        views={
            **TRUTH.views,
            name: replace(
                view,
                facts=replace(view.facts, encoding="float32"),
                stored=maps.reshape(view.stored.shape),
                scales=np.ones_like(view.scales),
            ),
        },
    )


def with_tokens(count: int, reason: str = "stop") -> Record:
    facts = replace(TRUTH.facts, tokens=TRUTH.tokens[:count], finish_reason=reason)
    return replace(TRUTH, facts=facts)


def test_the_truth_is_right_and_small_noise_too() -> None:
    assert difference(TRUTH, TRUTH) == ""
    assert difference(with_maps(5e-6), TRUTH) == ""


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (with_maps(3e-5), "off by 3e-05"),
        (with_maps(float("nan")), "off by nan"),
        (with_tokens(2), "got tokens"),
        (replace(TRUTH, views={"other": next(iter(TRUTH.views.values()))}), "got views"),
        (replace(TRUTH, alternatives=(TRUTH,)), "got 1 alternatives"),
    ],
)
def test_wrong_answers_are_named(record: Record, says: str) -> None:
    assert says in difference(record, TRUTH)
    outcome = judged(lambda: record, CASE)
    assert outcome.word == WRONG
    assert says in outcome.detail


def test_a_deadline_may_only_cut_the_end() -> None:
    assert shortened_difference(with_tokens(1, "deadline"), TRUTH) == ""
    assert shortened_difference(with_tokens(1), TRUTH) != ""
    other = replace(with_tokens(2, "deadline").facts, tokens=TRUTH.tokens[1:2])
    assert "beginning" in shortened_difference(replace(TRUTH, facts=other), TRUTH)


def test_errors_count_as_what_they_are() -> None:
    expected = ("overloaded", "worker_died", "unavailable")

    def word(code: str, field: str) -> str:
        return failed(RequestError(code, field, "got 1, expected 2"), CASE, expected).word

    assert word("overloaded", "server") == "overloaded"
    assert word("worker_died", "server") == "worker_died"
    assert word("deadline", "timeout_s") == HUNG
    assert word("internal", "") == WRONG
    assert word("invalid", "options") == WRONG
    assert word("deadline", "options.deadline_ms") == WRONG


def test_the_ledger_adds_up() -> None:
    ledger = Ledger()
    for number in range(10):
        ledger.add("good", "http", "right" if number else WRONG, float(number), "" if number else "why")
    ledger.add("bad", "grpc", "refused", 5.0)
    summary = ledger.summary()
    assert (summary["sent"], ledger.count(WRONG), ledger.count(HUNG)) == (11, 1, 0)
    assert summary["outcomes"] == {"bad": {"grpc": {"refused": 1}}, "good": {"http": {"right": 9, WRONG: 1}}}
    assert summary["taken_ms"]["good"] == {"median": 4.5, "99 %": 9.0, "max": 9.0}
    assert summary["details"] == ["good over http: why"]
