"""Insertion AUC: the area under the word's probability while patches are shown, the strongest first, up to all.

Petsiuk et al. 2018, RISE, arXiv 1806.07421.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llava_doors.door import Declaration, Parameter
from llava_eval.metric import Score, Scorer, asked
from llava_eval.perturbation import full_area
from llava_eval.truth import Truth

DECLARATION = Declaration(
    "insertion_auc",
    "Insertion over all patches, as papers have it; the least like known truth (Spearman .73, grey).",
    "llava_eval.metrics.insertion_auc:InsertionAuc",
    (
        Parameter("steps", "integer", 16, "Of the curve, from no patch to all."),
        Parameter("orders", "integer", 16, "Random orders of patches for the control."),
        Parameter("seed", "integer", 0, "Of the random orders."),
    ),
    traits={"higher_is_better": True, "needs_model": True, "needs_truth": False},
)


@dataclass(frozen=True)
class InsertionAuc:
    """The area under p(word) while the strongest patches alone are shown, from none to all; with a control."""

    steps: int = 16
    orders: int = 16
    seed: int = 0

    name, higher_is_better, needs_model, needs_truth = DECLARATION.name, True, True, False

    def score(self, values: np.ndarray, grid: np.ndarray, truth: Truth, scorer: Scorer | None) -> Score:
        """0 to 1, with a control. The truth is not looked at.

        Raises:
            MetricError: no scorer, or one that gives no log probabilities.
        """
        scorer = asked(scorer)
        return full_area(values, scorer, hide=False, steps=self.steps, orders=self.orders, seed=self.seed)
