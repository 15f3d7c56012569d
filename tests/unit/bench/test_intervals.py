"""Medians, paired ratios and slopes on series whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from bench.parts.intervals import median, over_scenes, paired_ratio, slope


def test_a_median_lies_in_its_interval_and_narrows_with_more_numbers():
    numbers = np.random.default_rng(1).normal(5, 1, 800)
    few, many = median(numbers[:50]), median(numbers)
    for interval in (few, many):
        assert interval.low <= interval.value <= interval.high
        assert interval.low < 5.2
        assert interval.high > 4.8
    assert many.high - many.low < (few.high - few.low) / 2


def test_pairs_cancel_what_both_share():
    rng = np.random.default_rng(2)
    drift = 1 + np.abs(np.cumsum(rng.normal(0, 0.2, 300)))
    ratio = paired_ratio(1.03 * drift * rng.normal(1, 0.005, 300), drift)
    assert ratio.value == pytest.approx(1.03, abs=0.002)
    assert ratio.high - ratio.low < 0.004


def test_what_comes_after_the_last_step_is_spread_over_the_steps():
    base = [0.1] * 40
    assert paired_ratio(base, base).value == 1
    spread = paired_ratio(base, base, [0.64, 0.64, 0.64], steps=64)
    assert spread.value == pytest.approx(1.1)
    assert (spread.low, spread.high) == pytest.approx((1.1, 1.1))
    uncertain = paired_ratio(base, base, [0.5, 0.64, 0.8], steps=64)
    assert uncertain.low < 1.1 < uncertain.high


def test_the_same_numbers_give_the_same_interval():
    numbers = list(np.random.default_rng(3).random(30))
    assert paired_ratio(numbers, numbers[::-1]) == paired_ratio(numbers, numbers[::-1])


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(100):
        interval = median(rng.exponential(1, 60))
        covered += interval.low <= np.log(2) <= interval.high
    assert covered >= 88


def test_a_slope_is_found_under_noise_that_lasts():
    rng = np.random.default_rng(5)
    x = np.arange(400)
    noise = np.convolve(rng.normal(0, 1, 419), np.ones(20) / 20, "valid")
    rising, flat = slope(x, 0.02 * x + noise), slope(x, noise)
    assert rising.low < 0.02 < rising.high
    assert rising.low > 0
    assert flat.low < 0 < flat.high


@pytest.mark.parametrize("series", [([1.0], [1.0, 2.0]), ([], [])])
def test_series_that_are_no_pairs_are_refused(series):
    with pytest.raises(ValueError, match="expected two series of one length"):
        paired_ratio(*series)


def test_a_slope_needs_points():
    with pytest.raises(ValueError, match="got 3 and 3"):
        slope([1, 2, 3], [1, 2, 3])


def test_words_of_one_scene_are_drawn_together():
    counts = [1, 3] * 60
    hits = [count * (number % 3 > 0) for number, count in enumerate(counts)]
    found = over_scenes(hits, counts)
    assert found.value == pytest.approx(sum(hits) / sum(counts))
    assert found.low < found.value < found.high
    split = over_scenes([1] * sum(hits) + [0] * (sum(counts) - sum(hits)), [1] * sum(counts))
    assert split.high - split.low < found.high - found.low, "the same words as scenes of their own"
    same = over_scenes(hits, counts, less=hits)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    better = over_scenes(counts, counts, less=hits)
    assert better.value == pytest.approx(1 - found.value)
    for wrong in (([1], [1, 1]), ([0, 0], [0, 0]), ([1, 1], [1, 1], [1])):
        with pytest.raises(ValueError, match="scenes: got"):
            over_scenes(*wrong)
