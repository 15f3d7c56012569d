"""Heads in order of what a criterion says of the words of one kind, with intervals over images and a choice of heads.

Flow: `Evidence.add` once per word (numbers per head are kept, maps are not) -> `Evidence.ranking` -> `Ranking`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from llava_eval.criterion import Criterion, WordMaps
from llava_eval.statistics import resampled_means

Head = tuple[int, int]
"""(layer, head), counted from 0."""
MOST_HEADS = 4
"""How many heads are chosen at most where nobody names a number."""
RULE = (
    "the head of the highest score, and those that follow it as long as each is as good in more than 2.5 % of "
    f"bootstrap draws of the images; {MOST_HEADS} at most"
)


@dataclass(frozen=True)
class Ranking:
    """What a criterion says of all heads.

    Args:
        scores: float64 [layer, head], means over words.
        low, high: [layer, head], 95 % by bootstrap over images; None where there is one image.
        words, images: how many.
        chosen: best first.
        alike: how many heads the rule would take if it took any number; with many more than were chosen, the words
            do not tell which are best.
    """

    scores: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None
    words: int
    images: int
    chosen: tuple[Head, ...]
    alike: int

    def order(self) -> list[Head]:
        """All heads, best first; those that tie by layer and head."""
        return [_head(cell, self.scores.shape[1]) for cell in _order(self.scores.ravel())]


@dataclass(frozen=True)
class Measured:
    """What one criterion keeps of the words of one kind.

    Args:
        numbers: float32 [word, number, layer, head].
        images, texts: [word].
    """

    numbers: np.ndarray
    images: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class _Seen:
    text: str
    image: str
    kinds: frozenset[str]
    measured: Mapping[str, np.ndarray]


class Evidence:
    """What criteria measured of words.

    Args:
        criteria: by name.
    """

    def __init__(self, criteria: Mapping[str, Criterion]) -> None:
        self._criteria, self._seen = criteria, list[_Seen]()

    def add(self, text: str, image: str, kinds: Sequence[str], word: WordMaps) -> frozenset[str]:
        """Takes a word; gives the names of the criteria that can judge by it.

        Args:
            text: of the word.
            image: the same for all words of one image.
            kinds: what sort of word it is.
            word: its maps.
        """
        found = {name: one.measure(word) for name, one in self._criteria.items()}
        measured = {name: numbers.astype(np.float32) for name, numbers in found.items() if numbers is not None}
        self._seen.append(_Seen(text, image, frozenset(kinds), measured))
        return frozenset(measured)

    def ranking(self, kind: str, criterion: str, top: int | None = None) -> Ranking | None:
        """All heads by one criterion on the words of one kind; None where it can judge by none of them.

        Args:
            top: how many heads are chosen; None for `RULE`.
        """
        found = self.measured(kind, criterion)
        return None if found is None else rank(self.scores(found, criterion), found.images, top)

    def measured(self, kind: str, criterion: str) -> Measured | None:
        """What a criterion keeps of the words of one kind; None where it can judge by none of them."""
        those = [one for one in self._seen if kind in one.kinds and criterion in one.measured]
        if not those:
            return None
        numbers = np.stack([one.measured[criterion] for one in those])
        return Measured(numbers, tuple(one.image for one in those), tuple(one.text for one in those))

    def scores(self, found: Measured, criterion: str) -> np.ndarray:
        """float64 [word, layer, head]: what the criterion makes of its numbers."""
        return np.asarray(self._criteria[criterion].scores(found.numbers), np.float64)


def rank(scores: np.ndarray, images: Sequence[str], top: int | None = None) -> Ranking:
    """Heads in order, with intervals and a choice.

    Args:
        scores: [word, layer, head], one word or more.
        images: [word], the image of each.
        top: how many heads are chosen; None for `RULE`.
    """
    words, _, heads = scores.shape
    flat = scores.reshape(words, -1)
    means, order = flat.mean(0), _order(flat.mean(0))
    draws = resampled_means(flat, images)
    if draws is None:
        behind, bounds = means[order[0]] - means, None
    else:
        behind = np.percentile(draws[:, [order[0]]] - draws, 2.5, axis=0)  # [cell]
        bounds = np.percentile(draws, [2.5, 97.5], axis=0).reshape(2, *scores.shape[1:])
    alike = [*takewhile(lambda cell: behind[cell] <= 0, order)]
    cells = order[:top] if top is not None else alike[:MOST_HEADS]
    return Ranking(
        means.reshape(scores.shape[1:]),
        None if bounds is None else bounds[0],
        None if bounds is None else bounds[1],
        words,
        len(set(images)),
        tuple(_head(cell, heads) for cell in cells),
        len(alike),
    )


def _order(means: np.ndarray) -> list[int]:
    return [int(cell) for cell in np.argsort(-means.round(12), kind="stable")]


def _head(cell: int, heads: int) -> Head:
    return cell // heads, cell % heads
