"""How far a measured share may be trusted: intervals over words, and over pictures whose words belong together; and how
far two measures rank alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

_NORMAL_95 = 1.959963984540054
_DRAWS, _SEED = 1000, 0
_DRAWN_TOGETHER = 4_000_000
"""Numbers of draws that are in memory at a time."""


@dataclass(frozen=True)
class Share:
    """`hits` of `count`, with the 95 % interval of Wilson."""

    hits: int
    count: int

    @property
    def value(self) -> float:
        """hits / count."""
        return self.hits / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Low and high, 95 %."""
        return wilson(self.hits, self.count)

    def as_json(self) -> dict[str, float | int | list[float]]:
        """Value, n and interval, to four places."""
        return {
            "value": round(self.value, 4),
            "n": self.count,
            "interval_95": [round(bound, 4) for bound in self.interval],
        }


def share_of(hits: Sequence[bool] | np.ndarray) -> Share:
    """How many of how many.

    Args:
        hits: [n] bool.
    """
    return Share(int(np.sum(hits)), len(hits))


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion; sound near 0 and 1, where hits / count plus or minus is not.

    Raises:
        ValueError: more hits than there are, or none to count.
    """
    if count < 1 or not 0 <= hits <= count:
        raise ValueError(f"hits: got {hits} of {count}, expected a proportion; count at least one and at most all")
    share, squared = hits / count, _NORMAL_95**2
    centre = (share + squared / (2 * count)) / (1 + squared / count)
    spread = _NORMAL_95 / (1 + squared / count) * math.sqrt(share * (1 - share) / count + squared / (4 * count**2))
    # At the ends the bound is exact, but rounding would leave it a hair off.
    return (0.0 if hits == 0 else centre - spread), (1.0 if hits == count else centre + spread)


def cluster_interval(scores: Sequence[float] | np.ndarray, clusters: Sequence[int]) -> tuple[float, float]:
    """The 95 % interval of a mean score, when the scores of one picture are not independent of each other.

    Args:
        scores: [n], each from 0 to 1; bool for hits.
        clusters: [n], the picture of each; equal numbers are one picture.

    Returns:
        low and high within 0 and 1, from the spread of whole pictures about the mean (the linearised ratio of sums).

    Raises:
        ValueError: fewer than two pictures, or a score outside 0 and 1.
    """
    found, groups = np.asarray(scores, np.float64), np.unique(np.asarray(clusters), return_inverse=True)[1]
    count = int(groups.max(initial=-1)) + 1
    if count < 2:
        raise ValueError(f"clusters: got {count}, expected 2 or more; one image has no spread, so add others")
    if not ((found >= 0) & (found <= 1)).all():
        raise ValueError(f"scores: got {found.min()} to {found.max()}, expected 0 to 1; scale them first")
    mean = found.mean()
    apart = np.bincount(groups, found - mean)
    spread = _NORMAL_95 * math.sqrt(count / (count - 1) * float((apart**2).sum())) / len(found)
    return float(max(0.0, mean - spread)), float(min(1.0, mean + spread))


def resampled_counts(clusters: Sequence[str] | Sequence[int], draws: int = _DRAWS) -> np.ndarray | None:
    """How often each score counts when whole pictures are drawn anew, with replacement; the same numbers every time.

    Args:
        clusters: [n], the picture of each score; equal ones are one picture.
        draws: how many.

    Returns:
        float64 [draw, n]; None where there is one picture, which has no spread.
    """
    names, groups = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) < 2:
        return None
    return np.asarray(np.concatenate(list(draws_of(len(names), draws)))[:, groups])


def draws_of(count: int, draws: int = _DRAWS) -> Iterator[np.ndarray]:
    """How often each of some pictures is there when as many are drawn anew, with replacement; always the same numbers.

    Args:
        count: how many pictures.
        draws: how often they are drawn.

    Yields:
        float64 [draw, picture], a part of the draws at a time, so that memory is bounded.
    """
    source, even = np.random.default_rng(_SEED), np.full(count, 1 / count)
    together = max(1, _DRAWN_TOGETHER // count)
    for start in range(0, draws, together):
        yield source.multinomial(count, even, min(together, draws - start)).astype(np.float64)


def exchanges_of(count: int, draws: int = _DRAWS) -> Iterator[np.ndarray]:
    """Which of some pictures keep their side when two sides exchange each by the toss of a coin; always the same ones.

    Args:
        count: how many pictures.
        draws: how often all coins are tossed.

    Yields:
        float64 [draw, picture] of 0 and 1, a part of the draws at a time, so that memory is bounded.
    """
    source = np.random.default_rng(_SEED)
    together = max(1, _DRAWN_TOGETHER // count)
    for start in range(0, draws, together):
        yield source.integers(0, 2, (min(together, draws - start), count)).astype(np.float64)


def resampled_means(
    scores: np.ndarray, clusters: Sequence[str] | Sequence[int], draws: int = _DRAWS
) -> np.ndarray | None:
    """Means of several scores in bootstrap draws of whole pictures, all scores of a draw from the same pictures.

    Args:
        scores: float [n, score].
        clusters: [n], the picture of each row.
        draws: how many.

    Returns:
        float64 [draw, score], whose percentiles are an interval; None where there is one picture.
    """
    counts = resampled_counts(clusters, draws)
    return None if counts is None else (counts @ scores) / counts.sum(1, keepdims=True)


def spearman(one: Sequence[float] | np.ndarray, other: Sequence[float] | np.ndarray) -> float:
    """Spearman's rank correlation: whether two measures put the same things first.

    Args:
        one, other: [n], n of 3 or more; equal values share their mean rank.

    Returns:
        -1 to 1.

    Raises:
        ValueError: fewer than 3 pairs, or a series whose values are all equal.
    """
    if len(one) != len(other) or len(one) < 3:
        raise ValueError(f"pairs: got {len(one)} and {len(other)} values, expected two series of one length from 3 on")
    ranks = [_ranks(np.asarray(values, np.float64)) for values in (one, other)]
    spread = [float((rank**2).sum()) for rank in ranks]
    if not all(spread):
        raise ValueError("ranks: got values that are all equal, expected some that differ; they rank nothing")
    return float((ranks[0] * ranks[1]).sum()) / math.sqrt(spread[0] * spread[1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """[n] ranks about their mean; equal values share their mean rank."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: np.ndarray = (last - (counts - 1) / 2)[places.ravel()] - (len(values) + 1) / 2
    return found


def auroc(scores: np.ndarray, truth: np.ndarray) -> float:
    """The chance that what is true scores above what is not; ties count half.

    Args:
        scores: float [n].
        truth: bool [n], some of each.

    Raises:
        ValueError: all are true, or none is.
    """
    return float(aurocs(scores, truth, np.ones((1, len(truth))))[0])


def aurocs(scores: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The same for draws of the scores.

    Args:
        scores, truth: see `auroc`.
        counts: float [draw, n], how often each counts; see `resampled_counts`.

    Returns:
        float64 [draw].

    Raises:
        ValueError: in a draw all are true, or none is.
    """
    values, order = np.asarray(scores, np.float64), np.argsort(scores, kind="stable")
    true = np.asarray(truth, bool)[order]
    starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf))  # [level]
    found = []
    for times in counts:
        yes, no = (np.add.reduceat(times[order] * one, starts) for one in (true, ~true))
        if not yes.any() or not no.any():
            raise ValueError(f"truth: got {yes.sum():g} true of {times.sum():g}, expected some of each; add the others")
        below = no.cumsum() - no
        found.append((yes * (below + no / 2)).sum() / (yes.sum() * no.sum()))
    return np.array(found, np.float64)
