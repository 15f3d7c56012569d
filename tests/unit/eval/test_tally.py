"""Means of scores gathered by image, and how far two of them lie apart, against ways that go image by image."""

from __future__ import annotations

import numpy as np
import pytest

from llava_eval.tally import Tally


def tally_of(scores: dict[str, list[float]], key: str = "a") -> Tally[str]:
    found: Tally[str] = Tally()
    for image, values in scores.items():
        for value in values:
            found.add(key, image, value)
    return found


def some(seed: int, count: int, chance: float) -> dict[str, list[float]]:
    """One to three hits or misses of each image."""
    rng = np.random.default_rng(seed)
    return {f"{n}.png": list((rng.random(rng.integers(1, 4)) < chance).astype(float)) for n in range(count)}


def mean_of(scores: dict[str, list[float]], images: list[str]) -> float:
    return float(np.mean([value for image in images for value in scores[image]]))


def test_a_difference_is_that_of_the_means_over_common_images() -> None:
    one, other = some(1, 60, 0.8), some(2, 60, 0.4)
    one["here.png"], other["there.png"] = [1.0] * 50, [0.0] * 50
    common = sorted({*one} & {*other})
    found = tally_of(one).against(tally_of(other))["a"]
    means = [mean_of(scores, common) for scores in (one, other)]
    assert (found.one, found.other) == (pytest.approx(means[0]), pytest.approx(means[1]))
    assert found.value == pytest.approx(means[0] - means[1])
    assert (found.n, found.other_n) == tuple(sum(len(scores[image]) for image in common) for scores in (one, other))
    assert found.images == 60
    rng, drawn = np.random.default_rng(9), []
    for _ in range(4000):
        images = [common[n] for n in rng.integers(60, size=60)]
        pair = [mean_of(scores, images) for scores in (one, other)]
        drawn.append(pair[0] - pair[1])
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, (2.5, 97.5))), abs=0.02)
    assert found.told_apart


def test_an_image_is_drawn_for_both() -> None:
    """Images that are hard for both runs make wide means and a narrow difference."""
    rng = np.random.default_rng(3)
    hard = {f"{n}.png": float(rng.random() < 0.5) for n in range(80)}
    one = tally_of({image: [value] for image, value in hard.items()})
    other = tally_of({image: [value * 0.9] for image, value in hard.items()})
    found, figure = one.against(other)["a"], one.figures()["a"]
    assert None not in (found.low, found.high, figure.low, figure.high)
    assert found.high - found.low < 0.2 * (figure.high - figure.low)  # type: ignore[operator]
    assert found.told_apart


def test_what_is_alike_is_not_told_apart() -> None:
    same = tally_of(some(1, 30, 0.5))
    found = same.against(tally_of(some(1, 30, 0.5)))["a"]
    assert (found.value, found.low, found.high, found.told_apart) == (0, 0, 0, False)


def test_each_key_counts_its_own_common_images() -> None:
    one, other = tally_of(some(1, 10, 0.5)), tally_of(some(2, 10, 0.5))
    one.add("b", "0.png", 1.0)
    one.add("b", "1.png", 0.0)
    other.add("b", "1.png", 1.0, 2)
    other.add("c", "1.png", 1.0)
    one.add("d", "2.png", 1.0)
    other.add("d", "3.png", 1.0)
    found = one.against(other)
    assert set(found) == {"a", "b"}, "d is of no image that both have"
    b = found["b"]
    assert (b.one, b.other, b.n, b.other_n, b.images) == (0, 0.5, 1, 2, 1)
    assert (b.low, b.high, b.told_apart) == (None, None, False)


def test_tallies_without_a_common_image_have_no_difference() -> None:
    assert not tally_of({"a.png": [1.0]}).against(tally_of({"b.png": [1.0]}))


def test_joined_tallies_are_one() -> None:
    whole, parts = tally_of(some(4, 20, 0.5)), tally_of({})
    for image, values in reversed(some(4, 20, 0.5).items()):
        parts.join(tally_of({image: values}))
    assert parts.figures()["a"].value == whole.figures()["a"].value
    assert parts.against(whole)["a"].value == 0


def test_equal_differences_are_no_certainty() -> None:
    found = tally_of({"a.png": [1.0], "b.png": [1.0]}).against(tally_of({"a.png": [0.0], "b.png": [0.0]}))["a"]
    assert (found.low, found.high, found.told_apart) == (1, 1, False)
