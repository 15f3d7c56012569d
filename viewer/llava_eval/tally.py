"""Scores by what they are of, gathered item by item, and their means with intervals over images.

Flow: key, image, item, sum and number of scores -> `Tally`, which other tallies join -> `Figure`s: mean, interval, n;
or, against another tally of the same images, `Difference`s.
"""

from __future__ import annotations

import warnings
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from llava_eval.statistics import draws_of, exchanges_of

Key = TypeVar("Key", bound=Hashable)
Name = TypeVar("Name", bound=Hashable)
Item = tuple[str, str]
"""An image, and which question about it."""
_TOGETHER = 512
"""Keys whose means are drawn at a time, so that memory is bounded."""
_CHANCE = 0.05
_ROUNDING = 1e-12
"""Differences of exchanged runs that are equal but for the order of sums."""


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


@dataclass(frozen=True)
class Difference:
    """How far one mean lies above another one of the same images.

    Args:
        one, other: the means over the scores of items that both have scores of.
        low, high: the 95 % interval of `value` in a bootstrap that draws an image for both; None where there is one.
        p: how many of 1000 random exchanges of the two, image by image, lie at least as far apart, itself counted too
            (a paired randomisation test, two-sided); None where there is one image.
        n, other_n: how many scores each mean is of; images: how many images.
    """

    one: float
    other: float
    low: float | None
    high: float | None
    p: float | None
    n: int
    other_n: int
    images: int

    @property
    def value(self) -> float:
        """One less the other."""
        return self.one - self.other

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves out zero, and chance alone seldom does as much.

        Of a few images, or of a few that differ, an interval of a bootstrap is too narrow: of two it leaves out zero
        every second time. What exchanging both runs shows holds for any number of them.
        """
        if self.low is None or self.high is None or self.p is None:
            return False
        return not self.low <= 0 <= self.high and self.p <= _CHANCE


class Tally(Generic[Key]):
    """Sums of scores by key, image and item: questions about one image are items of it."""

    def __init__(self) -> None:
        self._items: dict[Item, int] = {}
        self._found: dict[Key, tuple[array[int], array[float], array[int]]] = {}

    def add(self, key: Key, image: str, total: float, count: int = 1, *, item: str = "") -> None:
        """Adds the scores of one item.

        Args:
            key: what they are of.
            image: whose they are; the same one may come again.
            total: their sum.
            count: how many there are.
            item: which one of the image's.
        """
        number = self._items.setdefault((image, item), len(self._items))
        if key not in self._found:
            self._found[key] = array("q"), array("d"), array("q")
        items, totals, counts = self._found[key]
        items.append(number)
        totals.append(total)
        counts.append(count)

    def join(self, other: Tally[Key]) -> None:
        """Adds all that another tally has."""
        numbers = [self._items.setdefault(item, len(self._items)) for item in other._items]
        for key, (items, totals, counts) in other._found.items():
            own = self._found.setdefault(key, (array("q"), array("d"), array("q")))
            own[0].extend(numbers[item] for item in items)
            own[1].extend(totals)
            own[2].extend(counts)

    def __iter__(self) -> Iterator[Key]:
        """All keys, in the order in which they were first added."""
        return iter(self._found)

    def renamed(self, name: Callable[[Key], Key | None]) -> Tally[Key]:
        """The same scores under other keys, each of which must be another one.

        Args:
            name: the new key of each; None leaves its scores out.
        """
        made: Tally[Key] = Tally()
        made._items = self._items
        made._found = {new: scores for key, scores in self._found.items() if (new := name(key)) is not None}
        return made

    def figures(self) -> dict[Key, Figure]:
        """The mean of every key, with its interval."""
        images = _numbered(image for image, _ in self._items)
        own = np.array([images[image] for image, _ in self._items], np.int64)  # [item]
        found: dict[Key, Figure] = {}
        for keys in _some(list(self._found)):
            totals, counts = (np.zeros((len(images), len(keys))) for _ in range(2))
            for place, key in enumerate(keys):
                totals[:, place], counts[:, place] = _by_unit(self._found[key], own, len(images))
            low, high = _interval(len(images), (totals, counts))
            for place, key in enumerate(keys):
                of, number = int((counts[:, place] > 0).sum()), int(counts[:, place].sum())
                below, above = (None if of < 2 or bound is None else float(bound[place]) for bound in (low, high))
                found[key] = Figure(float(totals[:, place].sum()) / number, below, above, number, of)
        return found

    def against(self, other: Tally[Key], *, whole_images: bool = False) -> dict[Key, Difference]:
        """How far the mean of every key lies above that of another tally, over the items that both have scores of.

        Args:
            other: scores of the same images, such as another model's.
            whole_images: all items of an image are one, for tallies whose items have no names in common.
        """
        units, other_units = (
            [(image, "") if whole_images else (image, item) for image, item in tally._items] for tally in (self, other)
        )
        known = set(other_units)
        common = _numbered(unit for unit in units if unit in known)
        images = _numbered(image for image, _ in common)
        of_common = np.array([images[image] for image, _ in common], np.int64)  # [common]
        owns = [np.array([common.get(unit, -1) for unit in each], np.int64) for each in (units, other_units)]
        found: dict[Key, Difference] = {}
        for keys in _some([key for key in self._found if key in other._found]):
            sums = [(np.zeros((len(images), len(keys))), np.zeros((len(images), len(keys)))) for _ in range(2)]
            for place, key in enumerate(keys):
                parts = [_by_unit(tally._found[key], own, len(common))
                         for tally, own in zip((self, other), owns, strict=True)]  # fmt: skip
                both = (parts[0][1] > 0) & (parts[1][1] > 0)  # [common]
                for target, part in zip(sums, parts, strict=True):
                    for column, values in zip(target, part, strict=True):
                        column[:, place] = np.bincount(of_common[both], values[both], len(images))
            low, high = _interval(len(images), *sums)
            chances = _exchanged(len(images), *sums)
            for place, key in enumerate(keys):
                if of := int((sums[0][1][:, place] > 0).sum()):
                    n, other_n = (int(counts[:, place].sum()) for _, counts in sums)
                    here, other_mean = (
                        float(totals[:, place].sum() / counts[:, place].sum()) for totals, counts in sums
                    )
                    below, above = (None if of < 2 or bound is None else float(bound[place]) for bound in (low, high))
                    chance = None if of < 2 or chances is None else float(chances[place])
                    found[key] = Difference(here, other_mean, below, above, chance, n, other_n, of)
        return found


def _numbered(names: Iterable[Name]) -> dict[Name, int]:
    """Different names -> numbers from 0, in the order in which they first come."""
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def _by_unit(
    scores: tuple[array[int], array[float], array[int]], own: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of one key's scores, and how many they are, of each unit, such as an image: float64 [unit] both.

    Args:
        scores: items, totals, counts, as they were added.
        own: int64 [item], the number of each one's unit; -1 for items that do not count.
        count: of units.
    """
    items, total, times = map(np.asarray, scores)
    at = own[items]
    kept = at >= 0
    return np.bincount(at[kept], total[kept], count), np.bincount(at[kept], times[kept], count)


def _some(keys: list[Key]) -> Iterator[list[Key]]:
    """The keys, a bounded number at a time."""
    for start in range(0, len(keys), _TOGETHER):
        yield keys[start : start + _TOGETHER]


def _interval(
    images: int, sums: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """The 95 % interval of each key's mean, or of how far it lies above another one when an image is drawn for both.

    Args:
        images: how many are drawn.
        sums, other: totals and counts, float64 [image, key] both.

    Returns:
        low and high, float64 [key]; None where one image, or none, has no spread.
    """
    if images < 2:
        return None, None
    found = []
    with np.errstate(invalid="ignore"):  # a draw may hold no image of a key
        for times in draws_of(images):
            means = [(times @ totals) / (times @ counts) for totals, counts in ([sums, other] if other else [sums])]
            found.append(means[0] - means[1] if other else means[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a key that no image has
        low, high = np.nanpercentile(np.concatenate(found), (2.5, 97.5), axis=0)
    return low, high


def _exchanged(
    images: int, sums: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> np.ndarray | None:
    """How often two means lie as far apart as they do when every second image, drawn anew, is given to the other.

    Args:
        images: how many there are.
        sums, other: see `_interval`.

    Returns:
        p of each key, float64 [key]; None where one image, or none, can be exchanged.
    """
    if images < 2:
        return None
    (totals, counts), (other_totals, other_counts) = sums, other
    all_totals, all_counts = (one.sum(0) + two.sum(0) for one, two in zip(sums, other, strict=True))
    with np.errstate(invalid="ignore"):  # of a key that no image has
        real = np.abs(totals.sum(0) / counts.sum(0) - other_totals.sum(0) / other_counts.sum(0))
        far, drawn = np.zeros(totals.shape[1]), 0
        for kept in exchanges_of(images):
            own = kept @ totals + (1 - kept) @ other_totals
            own_counts = kept @ counts + (1 - kept) @ other_counts
            apart = np.abs(own / own_counts - (all_totals - own) / (all_counts - own_counts))
            far += (apart >= real - _ROUNDING).sum(0)
            drawn += len(kept)
    return (far + 1) / (drawn + 1)
