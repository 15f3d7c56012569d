"""Passes of methods against the time of their request, with a clock of the test's own."""

from __future__ import annotations

import pytest

from llava_server.look import pace
from llava_server.look.pace import Pace
from llava_wire import RequestError


class Clock:
    now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(pace.time, "monotonic", lambda: clock.now)
    clock = Clock()
    return clock


def test_passes_run_until_the_time_is_over(clock: Clock) -> None:
    held = Pace({"rise": 10}, clock.now + 60, 240_000)
    for _ in range(6):
        held.before(1)
        clock.now += 10
    with pytest.raises(RequestError, match=r"got 240000 ms, expected time for 10 passes over prompt and answer, which "
                       r"take about 100 s; list fewer steps, ask 'rise' for less") as refused:  # fmt: skip
        held.before(1)
    assert (refused.value.code, refused.value.field) == ("deadline", "options.deadline_ms")


def test_what_cannot_be_in_time_is_refused_as_soon_as_its_pace_is_known(clock: Clock) -> None:
    held = Pace({"occlusion": 900, "rise": 100}, clock.now + 60, 60_000)
    held.before(1)
    clock.now += 3
    with pytest.raises(RequestError, match=r"1000 passes over prompt and answer, which take about 3000 s.*'occlusion'"):
        held.before(1)


def test_a_slow_first_pass_and_a_pace_near_the_limit_are_no_reason(clock: Clock) -> None:
    held = Pace({"rise": 100}, clock.now + 60, 60_000)
    for spent in (1.5, 0.7, 0.7, 0.7):
        held.before(1)
        clock.now += spent


def test_an_answer_that_took_all_the_time_has_none_for_passes(clock: Clock) -> None:
    with pytest.raises(
        RequestError, match=r"got 500 ms, expected time for 4 passes over prompt and answer; list fewer"
    ):
        Pace({"rise": 4}, clock.now - 1, 500).before(1)
