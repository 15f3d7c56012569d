"""Box IoU: how well the box of a map's main part overlaps the true one; its mean is mIoU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llava_doors.door import Declaration, Parameter
from llava_eval.box_rule import overlap
from llava_eval.metric import Scorer
from llava_eval.truth import Truth

DECLARATION = Declaration(
    "box_iou",
    "Intersection over union of the object's box and the map's, by the box rule of Kang et al. (CVPR 2025).",
    "llava_eval.metrics.box_iou:BoxIoU",
    (Parameter("blur", "number", 0.0, "Standard deviation of a Gaussian in patches; the paper has 1 on 24 x 24."),),
    traits={"higher_is_better": True, "needs_model": False},
)


@dataclass(frozen=True)
class BoxIoU:
    """The map's box by `llava_eval.box_rule`, against one true box."""

    blur: float = 0.0

    name, higher_is_better, needs_model = DECLARATION.name, True, False

    def score(self, values: np.ndarray, grid: np.ndarray, truth: Truth, scorer: Scorer | None) -> float:
        """0 to 1; `scorer` is not asked.

        Raises:
            MetricError: several boxes, or a map without rows and columns.
        """
        return overlap(values, grid, truth, self.blur)
