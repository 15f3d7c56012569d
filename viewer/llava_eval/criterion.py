"""What a criterion is that tells heads apart, what it is shown of a word, and the door by which it comes in.

Flow: a word's maps of all heads -> `Criterion.measure`, a few numbers per head, kept in place of the maps -> when all
words are there, `Criterion.scores` -> `llava_eval.ranking`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from llava_doors.door import Door
from llava_eval.truth import Truth

CRITERIA = Door("criterion", "llava_gaze.criteria", "llava_eval.criteria")
"""All criteria: the modules of `llava_eval.criteria`, and entry points of the group `llava_gaze.criteria`."""
TRAITS = ("needs_boxes", "needs_contributions")
"""What a declaration says of what a criterion must be shown; it is true or false, and false where it is left out."""


@dataclass(frozen=True)
class WordMaps:
    """What every head read for one word; of several tokens, the mean of their rows.

    Args:
        maps: float [layer, head, patch], attention; patches of all grids one after the other, row by row.
        grids: rows and columns of each grid.
        rects: float64 [patch, 4], (x0, y0, x1, y1) px on the original image.
        truth: where the thing lies that the word names (`llava_eval.truth.as_truth`); None where nobody said.
        contributions: float [patch], what the patches contributed to the word's logit; None where it was not asked for.
    """

    maps: np.ndarray
    grids: tuple[tuple[int, int], ...]
    rects: np.ndarray
    truth: Truth | None = None
    contributions: np.ndarray | None = None


class Criterion(Protocol):
    """One way to tell heads apart. A class behind the door; its parameters are keyword arguments with defaults."""

    def measure(self, word: WordMaps) -> np.ndarray | None:
        """What is kept of a word, float [number, layer, head]; None where it cannot judge by this word."""

    def scores(self, measured: np.ndarray) -> np.ndarray:
        """How good each head is for each word; a head's score is the mean over words.

        Args:
            measured: float [word, number, layer, head] of the words of one kind.

        Returns:
            float [word, layer, head], finite, higher is better.
        """


def criterion(name: str, parameters: Mapping[str, Any] | None = None) -> Criterion:
    """The criterion of a name, with its parameters set.

    Args:
        name: as `CRITERIA.known()` lists it.
        parameters: those that are not to be the default.

    Raises:
        DoorError: there is no such criterion or parameter.
    """
    made: Criterion = CRITERIA.load(name)
    return type(made)(**CRITERIA.find(name).parse(parameters)) if parameters else made
