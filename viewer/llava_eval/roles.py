"""Roles: the few heads that serve all words between them, found without boxes and without a list of words.

Flow: agreement [word, cell] -> `cover`, heads such that the best of them for each word agrees most on average -> each
word goes to its best head; `found_again` tells how often the same heads come out of other draws of the images.

A set of heads of one kind is only as good as the kind: colour and shape words want different heads, and the best single
head for both is neither's. On descriptions of llava-shapes two heads come out, and words part into colours and shapes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llava_eval.statistics import resampled_counts

LEAST_GAIN = 0.05
"""What another head must add to the mean agreement."""
MOST_ROLES = 4
DRAWS = 100


def cover(scores: np.ndarray, weights: np.ndarray | None = None) -> tuple[int, ...]:
    """The heads, as few as do.

    Args:
        scores: [word, cell], agreement of each word with each head.
        weights: [word], how often a word counts; once where None.

    Returns:
        cells; one more is taken as long as it adds `LEAST_GAIN`, `MOST_ROLES` at most.
    """
    counts = np.ones(len(scores)) if weights is None else weights
    shares = counts / counts.sum()
    chosen: tuple[int, ...] = ()
    reached = -np.inf
    while len(chosen) < MOST_ROLES:
        wider, value = _settled(scores, shares, chosen)
        if value - reached < LEAST_GAIN:
            break
        chosen, reached = wider, value
    return chosen


def _settled(scores: np.ndarray, shares: np.ndarray, chosen: tuple[int, ...]) -> tuple[tuple[int, ...], float]:
    """The chosen heads and one more, each exchanged for a better one until there is none."""
    cells, value = _best_with(scores, shares, chosen)
    while True:
        for place in range(len(cells)):
            others = cells[:place] + cells[place + 1 :]
            exchanged, better = _best_with(scores, shares, others)
            if better > value + 1e-12:
                cells, value = exchanged, better
                break
        else:
            return cells, value


def _best_with(scores: np.ndarray, shares: np.ndarray, others: tuple[int, ...]) -> tuple[tuple[int, ...], float]:
    """These heads with the one that adds most to them, and the mean over words of their best."""
    reached = scores[:, others].max(1) if others else np.full(len(scores), -np.inf)
    values = shares @ np.maximum(scores, reached[:, None])  # [cell]
    best = int(values.argmax())
    return (*others, best), float(values[best])


def found_again(scores: np.ndarray, images: Sequence[str], cells: Sequence[int]) -> list[float] | None:
    """How often each head is among those that other draws of the same images give; None where there is one image.

    Args:
        scores: [word, cell].
        images: [word], the image of each.
        cells: the heads.
    """
    counts = resampled_counts(images, DRAWS)
    if counts is None:
        return None
    draws = [cover(scores[one > 0], one[one > 0]) for one in counts]
    return [sum(cell in draw for draw in draws) / len(draws) for cell in cells]
