"""Pointing: how often a head's strongest patch lies in the box of the thing that the word names."""

from __future__ import annotations

import numpy as np

from llava_doors.door import Declaration
from llava_eval.criterion import WordMaps
from llava_eval.metrics.pointing_game import peak_share
from llava_eval.truth import centres_inside

DECLARATION = Declaration(
    "pointing",
    "How often a head's strongest patch has its centre in the box of what the word names; patches that tie share it.",
    "llava_eval.criteria.pointing:Pointing",
    traits={"needs_boxes": True, "needs_contributions": False},
)


class Pointing:
    """The pointing game of every head."""

    def measure(self, word: WordMaps) -> np.ndarray | None:
        """[1, layer, head], 0 to 1; None without a box, or for one that holds no patch's centre."""
        inside = None if word.truth is None else centres_inside(word.rects, word.truth)
        return None if inside is None or not inside.any() else peak_share(word.maps, inside)[None]

    def scores(self, measured: np.ndarray) -> np.ndarray:
        """[word, layer, head]: as it was measured."""
        return measured[:, 0]
