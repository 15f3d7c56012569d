"""Means of scores gathered by image, and how far two of them lie apart, against ways that go image by image."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from llava_eval.tally import Difference, Tally


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


def test_a_few_equal_differences_are_no_certainty_and_many_are() -> None:
    def all_apart(count: int) -> Difference:
        one, other = ({f"{n}.png": [value] for n in range(count)} for value in (1.0, 0.0))
        return tally_of(one).against(tally_of(other))["a"]

    assert [(each.low, each.high, each.told_apart) for each in map(all_apart, (2, 4))] == [(1, 1, False)] * 2
    assert all_apart(20).told_apart
    assert all_apart(20).p == pytest.approx(1 / 1001)


@pytest.mark.parametrize("count", [2, 3, 5, 10, 40])
def test_alike_runs_are_told_apart_by_chance_once_in_twenty_times_whatever_the_number_of_images(count: int) -> None:
    rng, one, other = np.random.default_rng(count), Tally[str](), Tally[str]()
    for key in range(400):
        for n, pair in enumerate(rng.exponential(size=(count, 2)) ** 2):
            one.add(f"{key}", f"{n}.png", pair[0])
            other.add(f"{key}", f"{n}.png", pair[1])
    found = one.against(other).values()
    assert np.mean([each.told_apart for each in found]) < 0.05 + 2.6 * (0.05 * 0.95 / 400) ** 0.5


def test_exchanges_of_images_with_several_scores_are_those_that_are_counted_one_by_one() -> None:
    one, other = some(1, 6, 0.9), some(2, 6, 0.3)
    other["0.png"] = [0.0] * 5
    found = tally_of(one).against(tally_of(other))["a"]
    far = 0
    for kept in itertools.product((True, False), repeat=6):
        pair = [
            np.mean([value for n, own in enumerate(kept) for value in (one if own == side else other)[f"{n}.png"]])
            for side in (True, False)
        ]
        far += abs(pair[0] - pair[1]) >= abs(found.value) - 1e-9
    assert found.p == pytest.approx(far / 64, abs=0.04)


def test_scores_keep_their_images_under_other_keys() -> None:
    tally = tally_of(some(1, 10, 0.5))
    tally.add("b", "0.png", 1.0)
    renamed = tally.renamed(lambda key: "c" if key == "a" else None)
    assert list(renamed) == ["c"]
    assert renamed.figures()["c"] == tally.figures()["a"]


def asked_of(scores: dict[tuple[str, str], float]) -> Tally[str]:
    found: Tally[str] = Tally()
    for (image, item), value in scores.items():
        found.add("a", image, value, item=item)
    return found


def test_items_that_one_run_alone_has_count_nowhere() -> None:
    """Of runs that say the same of each item, what one of them misses makes no difference."""
    rng = np.random.default_rng(5)
    whole = {(f"{n}.png", kind): float(rng.random()) for n in range(20) for kind in ("easy", "hard")}
    fewer = {unit: value for unit, value in whole.items() if not (unit[1] == "hard" and int(unit[0][:-4]) % 3 == 0)}
    found = asked_of(whole).against(asked_of(fewer))["a"]
    assert (found.value, found.told_apart) == (pytest.approx(0), False)
    assert (found.n, found.other_n, found.images) == (33, 33, 20)
    by_image = asked_of(whole).against(asked_of(fewer), whole_images=True)["a"]
    assert (by_image.n, by_image.other_n, by_image.images) == (40, 33, 20)
    assert by_image.value != pytest.approx(0)
    renamed = {(image, f"{kind} too"): value for (image, kind), value in whole.items()}
    assert not asked_of(whole).against(asked_of(renamed))


def test_items_of_an_image_are_drawn_together() -> None:
    one = {(f"{n}.png", kind): float(n % 2) for n in range(10) for kind in "abc"}
    apart = {(f"{image}{item}", ""): value for (image, item), value in one.items()}
    together, alone = asked_of(one).figures()["a"], asked_of(apart).figures()["a"]
    assert (together.value, together.n, together.images) == (alone.value, 30, 10)
    assert together.high - together.low > 1.3 * (alone.high - alone.low)  # type: ignore[operator]
