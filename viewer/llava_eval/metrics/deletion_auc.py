"""Deletion AUC: the area under the word's probability while patches are hidden, the strongest first, up to all.

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
    "deletion_auc",
    "Deletion over all patches, as papers have it; near known truth (Spearman .93, grey).",
    "llava_eval.metrics.deletion_auc:DeletionAuc",
    (
        Parameter("steps", "integer", 16, "Of the curve, from no patch to all."),
        Parameter("orders", "integer", 16, "Random orders of patches for the control."),
        Parameter("seed", "integer", 0, "Of the random orders."),
    ),
    traits={"higher_is_better": False, "needs_model": True, "needs_truth": False},
)


@dataclass(frozen=True)
class DeletionAuc:
    """The area under p(word) while the strongest patches are hidden, from none to all; with a control."""

    steps: int = 16
    orders: int = 16
    seed: int = 0

    name, higher_is_better, needs_model, needs_truth = DECLARATION.name, False, True, False

    def score(self, values: np.ndarray, grid: np.ndarray, truth: Truth, scorer: Scorer | None) -> Score:
        """0 to 1, with a control. The truth is not looked at.

        Raises:
            MetricError: no scorer, or one that gives no log probabilities.
        """
        scorer = asked(scorer)
        return full_area(values, scorer, hide=True, steps=self.steps, orders=self.orders, seed=self.seed)
