"""How far a measured share may be trusted: intervals over words, and over pictures whose words belong together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_NORMAL_95 = 1.959963984540054


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
        raise ValueError(f"clusters: got {count}, expected 2 or more; one picture has no spread, so add others")
    if not ((found >= 0) & (found <= 1)).all():
        raise ValueError(f"scores: got {found.min()} to {found.max()}, expected 0 to 1; scale them first")
    mean = found.mean()
    apart = np.bincount(groups, found - mean)
    spread = _NORMAL_95 * math.sqrt(count / (count - 1) * float((apart**2).sum())) / len(found)
    return float(max(0.0, mean - spread)), float(min(1.0, mean + spread))
