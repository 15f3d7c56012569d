"""The rule for sinks: found where they are planted, nowhere else, and not at all where there are too few rows."""

from __future__ import annotations

import numpy as np
import pytest

from llava_doors.parts.sinks import LEAST_ROWS, sink_patches


def rows(count: int, patches: int = 64, seed: int = 0) -> np.ndarray:
    """Rows that each read another patch most, none of them twice the even spread often."""
    rng = np.random.default_rng(seed)
    maps = rng.uniform(0.5, 1.0, (count, patches))
    maps[np.arange(count), rng.permutation(patches)[:count]] = 20
    return (0.4 * maps / maps.sum(1, keepdims=True)).astype(np.float32)


def planted(maps: np.ndarray, patch: int, times: float, among: int) -> np.ndarray:
    """The same with a patch at so many times the even spread of each of the first rows, its sum in it included."""
    maps = maps.copy()
    maps[:among, patch] = 0
    size = maps.shape[1]
    maps[:among, patch] = maps[:among].sum(1) * times / (size - times)
    return maps


def test_nothing_is_found_where_nothing_is_planted() -> None:
    assert not any(sink_patches(rows(count, seed=count)).any() for count in range(LEAST_ROWS, 40))


@pytest.mark.parametrize(("count", "among", "found"), [(10, 10, True), (10, 9, True), (10, 8, False), (5, 4, False)])
def test_nine_rows_of_ten_decide(count: int, among: int, found: bool) -> None:
    sinks = sink_patches(planted(rows(count), 17, 2.001, among))
    assert sinks is not None
    assert sinks.nonzero()[0].tolist() == [17] * found


def test_twice_the_even_spread_decides_whatever_the_image_share() -> None:
    for share in (1.0, 0.01):
        for times, found in ((2.001, [9]), (1.99, [])):
            sinks = sink_patches(planted(rows(12), 9, times, 12) * share)
            assert sinks is not None
            assert sinks.nonzero()[0].tolist() == found


def test_rows_that_read_nothing_of_the_picture_speak_for_no_patch() -> None:
    sinks = sink_patches(np.zeros((6, 64), np.float32))
    assert sinks is not None
    assert not sinks.any()


def test_too_few_rows_say_nothing() -> None:
    assert sink_patches(planted(rows(4), 3, 10, 4)) is None
