"""A soak's memory: what is flat passes, what leaks is named with its slope, and deaths that nobody caused are told."""

from __future__ import annotations

import random

import pytest

from stress.soak import failures
from stress.soaking.memory import growth, levels

HOUR = [30.0 * number for number in range(121)]


def samples(**levels_mb: list[float]) -> list[dict[str, float]]:
    """An hour's samples; kinds that are not named are flat."""
    flat = {"java_mb": 700.0, "front_mb": 90.0, "worker_mb": 420.0, "java_files": 60.0, "worker_files": 20.0}
    rng = random.Random(1)
    found = []
    for number, at_s in enumerate(HOUR):
        noise = rng.uniform(0.98, 1.02)
        found.append(
            {"at_s": at_s, **{name: level * noise for name, level in flat.items()}}
            | {name: values[number] for name, values in levels_mb.items()}
        )
    return found


def test_flat_memory_passes_whatever_its_warm_up_was() -> None:
    warm = [min(90.0 + number * 20, 700.0) for number in range(121)]
    found = levels(samples(java_mb=warm))
    assert growth(found, 60) == []
    assert abs(found["front_mb"]["slope_per_hour"]) < 5


@pytest.mark.parametrize(
    ("name", "first", "per_hour"),
    [("front_mb", 90.0, 120.0), ("java_mb", 500.0, 500.0), ("worker_mb", 420.0, 200.0), ("front_files", 60.0, 300.0)],
)
def test_a_leak_is_named(name: str, first: float, per_hour: float) -> None:
    found = levels(samples(**{name: [first + per_hour * at_s / 3600 for at_s in HOUR]}))
    [line] = growth(found, 60)
    assert line.startswith(f"{name}: got ")
    assert growth(found, 5) == []
    assert found[name]["slope_per_hour"] == pytest.approx(per_hour, rel=0.05)


def test_workers_that_load_do_not_count_as_growth() -> None:
    dips = [0.0 if number % 7 == 0 else 200.0 if number % 7 == 1 else 420.0 for number in range(121)]
    assert growth(levels(samples(worker_mb=dips)), 60) == []


def test_a_few_samples_say_nothing() -> None:
    assert levels(samples()[:7]) == {}


SOUND = {
    "minutes": 60.0, "wrong": 0, "hung": 0, "kills": [{"at_s": 1.0, "ready_again_s": 4.0}], "levels": {},
    "ended": {"java": 0, "front": 0, "worker": 1},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"wrong": 2}, "wrong: got 2"),
        ({"hung": 1}, "hung: got 1"),
        ({"kills": [{"at_s": 1.0, "ready_again_s": None}]}, "kills: got 1"),
        ({"ended": {"java": 1, "front": 0, "worker": 1}}, "java: got 1"),
        ({"ended": {"java": 0, "front": 1, "worker": 0}}, "front: got 1"),
        ({"ended": {"java": 0, "front": 0, "worker": 2}}, "worker: got 2 that ended, expected 1"),
    ],
)
def test_each_failure_of_a_soak_is_told(changes: dict[str, object], says: str) -> None:
    assert failures(SOUND) == []
    [line] = failures({**SOUND, **changes})
    assert line.startswith(says)
