"""Energy in box: which part of a map lies in the object (Wang et al., CVPR Workshops 2020)."""

from __future__ import annotations

import numpy as np

from llava_doors.door import Declaration
from llava_eval.metric import Scorer
from llava_eval.truth import Truth, covered

DECLARATION = Declaration(
    "energy_in_box",
    "The part of the map's positive sum that lies in the object, 0 to 1.",
    "llava_eval.metrics.energy_in_box:EnergyInBox",
    traits={"higher_is_better": True, "needs_model": False},
)


class EnergyInBox:
    """The positive map's sum over the truth by its sum over all patches; a patch counts as far as it is covered."""

    name, higher_is_better, needs_model = DECLARATION.name, True, False

    def score(self, values: np.ndarray, grid: np.ndarray, truth: Truth, scorer: Scorer | None) -> float:
        """0 to 1; a map with nothing positive counts as an even one. `scorer` is not asked."""
        positive, part = values.clip(0, None), covered(grid, truth)
        total = float(positive.sum())
        return float((positive * part).sum()) / total if total > 0 else float(part.mean())
