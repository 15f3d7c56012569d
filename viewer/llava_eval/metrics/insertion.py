"""Insertion to object size: whether the map's strongest patches alone are enough for the word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llava_doors.door import Declaration, Parameter
from llava_eval.metric import Score, Scorer, asked
from llava_eval.perturbation import object_size_area
from llava_eval.truth import Truth

DECLARATION = Declaration(
    "insertion",
    "The word's mean probability while the map's strongest patches, up to the object's size, alone are shown; "
    "the closest to known truth (Spearman .99, mean embedding).",
    "llava_eval.metrics.insertion:Insertion",
    (
        Parameter("orders", "integer", 16, "Random orders of patches for the control."),
        Parameter("seed", "integer", 0, "Of the random orders."),
    ),
    traits={"higher_is_better": True, "needs_model": True},
)


@dataclass(frozen=True)
class Insertion:
    """The area under p(word) while the strongest patches alone are shown, up to the object's size; with a control."""

    orders: int = 16
    seed: int = 0

    name, higher_is_better, needs_model = DECLARATION.name, True, True

    def score(self, values: np.ndarray, grid: np.ndarray, truth: Truth, scorer: Scorer | None) -> Score:
        """0 to 1, with a control.

        Raises:
            MetricError: no scorer, or one that gives no log probabilities.
        """
        return object_size_area(values, grid, truth, asked(scorer), hide=False, orders=self.orders, seed=self.seed)
