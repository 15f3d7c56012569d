"""A metric of another package: one file, which asks the scorer."""

from __future__ import annotations

import numpy as np

from llava_doors.door import Declaration, Parameter
from llava_eval.metric import Score, Scorer, asked
from llava_eval.truth import Truth

DECLARATION = Declaration(
    "toy_top_alone",
    "Log p of the word with the map's strongest patches alone, less that with its weakest ones alone.",
    "support.toy_metric:TopAlone",
    (Parameter("patches", "integer", 4, "How many."),),
    traits={"higher_is_better": True, "needs_model": True},
)


class TopAlone:
    """What the strongest patches do alone."""

    name, higher_is_better, needs_model = DECLARATION.name, True, True

    def __init__(self, patches: int = 4) -> None:
        self.patches = patches

    def score(self, values: np.ndarray, grid: np.ndarray, truth: Truth, scorer: Scorer | None) -> Score:
        """In nats; control: the weakest alone."""
        order = np.argsort(-values.ravel(), kind="stable")
        keep = np.zeros((2, values.size), bool)
        keep[0, order[: self.patches]] = keep[1, order[-self.patches :]] = True
        top, bottom = asked(scorer).log_probs(keep)
        return Score(float(top - bottom), float(bottom))
