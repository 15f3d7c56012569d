"""Top alone: how probable the word is when the map's strongest patches are all that the model sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llava_doors.door import Declaration, Parameter
from llava_eval.metric import Score, Scorer, asked
from llava_eval.perturbation import strongest_alone
from llava_eval.truth import Truth

DECLARATION = Declaration(
    "top_alone",
    "The word's probability when the map's strongest patches alone are shown; close to known truth (Spearman .98).",
    "llava_eval.metrics.top_alone:TopAlone",
    (
        Parameter("top", "integer", 0, "How many patches; 0: a sixteenth of the map's, as 4 of 64."),
        Parameter("sets", "integer", 16, "Random sets of as many patches for the control."),
        Parameter("seed", "integer", 0, "Of the random sets."),
    ),
    traits={"higher_is_better": True, "needs_model": True, "needs_truth": False},
)


@dataclass(frozen=True)
class TopAlone:
    """p of the word with the strongest patches alone; with a control. The truth is not looked at."""

    top: int = 0
    sets: int = 16
    seed: int = 0

    name, higher_is_better, needs_model, needs_truth = DECLARATION.name, True, True, False

    def score(self, values: np.ndarray, grid: np.ndarray, truth: Truth, scorer: Scorer | None) -> Score:
        """0 to 1, with a control.

        Raises:
            MetricError: no scorer, one that gives no log probabilities, or more patches than there are.
        """
        return strongest_alone(values, asked(scorer), top=self.top, sets=self.sets, seed=self.seed)
