"""Box accuracy: whether the box of a map's main part is right; its mean at 0.5 is Acc@0.5."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llava_doors.door import Declaration, Parameter
from llava_eval.box_rule import overlap
from llava_eval.metric import Scorer
from llava_eval.truth import MetricError, Truth

DECLARATION = Declaration(
    "box_accuracy",
    "1 where the map's box and the object's overlap enough (IoU), by the box rule of Kang et al. (CVPR 2025), else 0.",
    "llava_eval.metrics.box_accuracy:BoxAccuracy",
    (
        Parameter("at", "number", 0.5, "The least IoU that counts."),
        Parameter("blur", "number", 0.0, "Standard deviation of a Gaussian in patches; the paper has 1 on 24 x 24."),
    ),
    traits={"higher_is_better": True, "needs_model": False},
)


@dataclass(frozen=True)
class BoxAccuracy:
    """Whether the IoU of the map's box, by `llava_eval.box_rule`, reaches `at`.

    Raises:
        MetricError: `at` is not above 0 and at most 1.
    """

    at: float = 0.5
    blur: float = 0.0

    name, higher_is_better, needs_model = DECLARATION.name, True, False

    def __post_init__(self) -> None:
        if not 0 < self.at <= 1:
            raise MetricError(f"parameters.at: got {self.at}, expected more than 0 and at most 1")

    def score(self, values: np.ndarray, grid: np.ndarray, truth: Truth, scorer: Scorer | None) -> float:
        """0 or 1; `scorer` is not asked.

        Raises:
            MetricError: several boxes, or a map without rows and columns.
        """
        return float(overlap(values, grid, truth, self.blur) >= self.at)
