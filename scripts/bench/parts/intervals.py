"""Medians and slopes with 95 % bootstrap intervals.

Flow: raw series -> resampled series (fixed seed, so that the same numbers give the same interval) -> `Interval`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llava_eval.statistics import resampled_counts

_DRAWS = 4000
_SEED = 0


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval, in the unit of the series."""

    value: float
    low: float
    high: float


def median(values: Sequence[float]) -> Interval:
    """The median of a series."""
    series = np.asarray(values, dtype=np.float64)
    return _interval(float(np.median(series)), np.median(_resampled(series, _generator()), axis=1))


def paired_ratio(
    values: Sequence[float], base: Sequence[float], afterwards: Sequence[float] = (), steps: int = 1
) -> Interval:
    """The median over pairs of (value + afterwards / steps) / base.

    Args:
        values: seconds of the way under test, one per pair.
        base: seconds of the baseline in the same pair.
        afterwards: repeated measurements, in seconds, of what the way does once after `steps` pairs; their median is
            spread over the steps. Resampled on its own.
        steps: pairs that share one `afterwards`.

    Raises:
        ValueError: when the series are not pairs.
    """
    if len(values) != len(base) or not len(values):
        raise ValueError(f"pairs: got {len(values)} and {len(base)} values, expected two series of one length")
    tested, reference = np.asarray(values, dtype=np.float64), np.asarray(base, dtype=np.float64)
    generator = _generator()
    picks = generator.integers(0, len(tested), (_DRAWS, len(tested)))
    extra, extras = 0.0, np.zeros((_DRAWS, 1))
    if len(afterwards):
        once = np.asarray(afterwards, dtype=np.float64)
        extra = float(np.median(once)) / steps
        extras = np.median(_resampled(once, generator), axis=1)[:, None] / steps
    draws = np.median((tested[picks] + extras) / reference[picks], axis=1)
    return _interval(float(np.median((tested + extra) / reference)), draws)


def over_scenes(sums: Sequence[float], counts: Sequence[int], less: Sequence[float] = ()) -> Interval:
    """A mean of words whose scenes are drawn again, because words of one scene are not independent.

    Args:
        sums: the words' scores, summed per scene.
        counts: words per scene.
        less: sums of another way to score the same words, which are taken away scene by scene.

    Raises:
        ValueError: when the series are not of the same scenes, there is one scene, or there are no words.
    """
    if not len(sums) == len(counts) == len(less or sums) or not sum(counts):
        raise ValueError(f"scenes: got {len(sums)}, {len(counts)} and {len(less)}, expected one length, and words")
    words = np.asarray(counts, dtype=np.float64)
    scores = np.asarray(sums, dtype=np.float64) - (np.asarray(less, dtype=np.float64) if less else 0)
    drawn = drawn_scenes(len(words))
    counted = drawn @ words  # [draw]; of few scenes a draw may have no words
    return _interval(float(scores.sum() / words.sum()), (drawn @ scores)[counted > 0] / counted[counted > 0])


@functools.cache
def drawn_scenes(count: int) -> npt.NDArray[np.float64]:
    """[draw, scene]: how often each scene counts when as many are drawn anew as there are; not to be changed.

    Raises:
        ValueError: one scene, which has no spread.
    """
    drawn = resampled_counts([*range(count)], _DRAWS)
    if drawn is None:
        raise ValueError(f"scenes: got {count}, expected 2 or more; one has no spread")
    return drawn


def slope(x: Sequence[float], y: Sequence[float]) -> Interval:
    """The least-squares slope of y over x; residuals are resampled in blocks, because neighbours go together.

    Raises:
        ValueError: for fewer than 20 points.
    """
    if len(x) != len(y) or len(x) < 20:
        raise ValueError(f"points: got {len(x)} and {len(y)}, expected two series of 20 or more")
    places, heights = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    centred = places - places.mean()
    weights = centred / (centred**2).sum()
    fitted = float(weights @ heights)
    residuals = heights - heights.mean() - fitted * centred
    length = max(2, len(places) // 20)
    blocks = -(-len(places) // length)
    starts = _generator().integers(0, len(places) - length + 1, (_DRAWS, blocks, 1))
    drawn = residuals[(starts + np.arange(length)).reshape(_DRAWS, -1)[:, : len(places)]]
    return _interval(fitted, fitted + drawn @ weights)


def _generator() -> np.random.Generator:
    return np.random.default_rng(_SEED)


def _resampled(series: npt.NDArray[np.float64], generator: np.random.Generator) -> npt.NDArray[np.float64]:
    return generator.choice(series, (_DRAWS, len(series)))


def _interval(value: float, draws: npt.NDArray[np.float64]) -> Interval:
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(value, float(low), float(high))
