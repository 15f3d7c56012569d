"""Scores by what they are of, gathered image by image, and their means with intervals over images.

Flow: key, image, sum and number of scores -> `Tally`, which other tallies join -> `Figure`s: mean, interval, n.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from llava_eval.statistics import draws_of

Key = TypeVar("Key", bound=Hashable)
_TOGETHER = 512
"""Keys whose means are drawn at a time, so that memory is bounded."""


@dataclass(frozen=True)
class Figure:
    """A mean and how far it may be trusted.

    Args:
        value: the mean over all scores.
        low, high: the 95 % interval of a bootstrap over images; None where there is one image.
        n: how many scores; images: how many images they are of.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    images: int


class Tally(Generic[Key]):
    """Sums of scores by key and image."""

    def __init__(self) -> None:
        self._images: dict[str, int] = {}
        self._found: dict[Key, tuple[array[int], array[float], array[int]]] = {}

    def add(self, key: Key, image: str, total: float, count: int = 1) -> None:
        """Adds the scores of one image.

        Args:
            key: what they are of.
            image: whose they are; the same one may come again.
            total: their sum.
            count: how many there are.
        """
        number = self._images.setdefault(image, len(self._images))
        if key not in self._found:
            self._found[key] = array("q"), array("d"), array("q")
        images, totals, counts = self._found[key]
        images.append(number)
        totals.append(total)
        counts.append(count)

    def join(self, other: Tally[Key]) -> None:
        """Adds all that another tally has."""
        numbers = [self._images.setdefault(image, len(self._images)) for image in other._images]
        for key, (images, totals, counts) in other._found.items():
            own = self._found.setdefault(key, (array("q"), array("d"), array("q")))
            own[0].extend(numbers[image] for image in images)
            own[1].extend(totals)
            own[2].extend(counts)

    def figures(self) -> dict[Key, Figure]:
        """The mean of every key, with its interval."""
        keys = list(self._found)
        found: dict[Key, Figure] = {}
        for start in range(0, len(keys), _TOGETHER):
            found |= self._figures(keys[start : start + _TOGETHER])
        return found

    def _figures(self, keys: list[Key]) -> dict[Key, Figure]:
        images = len(self._images)
        columns = [tuple(map(np.asarray, self._found[key])) for key in keys]
        totals = np.stack([np.bincount(at, total, images) for at, total, _ in columns], 1)  # [image, key]
        counts = np.stack([np.bincount(at, count, images) for at, _, count in columns], 1)  # [image, key]
        low = high = None
        if images > 1:
            with np.errstate(invalid="ignore"):  # a draw may hold no image of a key
                means = np.concatenate([(times @ totals) / (times @ counts) for times in draws_of(images)])
            low, high = np.nanpercentile(means, (2.5, 97.5), axis=0)
        found = {}
        for place, key in enumerate(keys):
            of, number = int((counts[:, place] > 0).sum()), int(counts[:, place].sum())
            below, above = (None if of < 2 or bound is None else float(bound[place]) for bound in (low, high))
            found[key] = Figure(float(totals[:, place].sum()) / number, below, above, number, of)
        return found
