"""Share in box: how much of the map, in its own unit, lies in the object."""

from __future__ import annotations

import numpy as np

from llava_doors.door import Declaration
from llava_eval.metric import Scorer
from llava_eval.truth import Truth, covered

DECLARATION = Declaration(
    "share_in_box",
    "The map's sum over the object, in the map's own unit; for attention the share of the row that read the object.",
    "llava_eval.metrics.share_in_box:ShareInBox",
    traits={"higher_is_better": True, "needs_model": False},
)


class ShareInBox:
    """The sum of the map over the truth, signs kept; a patch counts as far as it is covered.

    Only for maps whose quantity is additive: a sum of ratios has no meaning.
    """

    name, higher_is_better, needs_model = DECLARATION.name, True, False

    def score(self, values: np.ndarray, grid: np.ndarray, truth: Truth, scorer: Scorer | None) -> float:
        """In the map's unit, not bounded by 0 and 1 for signed maps; `scorer` is not asked."""
        return float((values * covered(grid, truth)).sum())
