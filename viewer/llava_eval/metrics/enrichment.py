"""Enrichment: how much denser a map is in the object than in the rest of what the model saw."""

from __future__ import annotations

import numpy as np

from llava_doors.door import Declaration
from llava_eval.metric import Scorer
from llava_eval.metrics.energy_in_box import EnergyInBox
from llava_eval.truth import MetricError, Truth, covered

DECLARATION = Declaration(
    "enrichment",
    "The energy in the object by the energy that an even map has there; 1 is chance.",
    "llava_eval.metrics.enrichment:Enrichment",
    traits={"higher_is_better": True, "needs_model": False},
)


class Enrichment:
    """Energy in box, divided by the part of the grid's patches that the truth covers."""

    name, higher_is_better, needs_model = DECLARATION.name, True, False

    def score(self, values: np.ndarray, grid: np.ndarray, truth: Truth, scorer: Scorer | None) -> float:
        """0 or more.

        Raises:
            MetricError: the truth lies where the grid does not reach, so that no map could be dense there.
        """
        even = float(covered(grid, truth).mean())
        if even == 0:
            raise MetricError("truth: got an object outside of the grid, expected one that the model saw; leave it out")
        return EnergyInBox().score(values, grid, truth, scorer) / even
