"""Pointing game: whether the strongest patch lies in the object (Zhang et al., ECCV 2016)."""

from __future__ import annotations

import numpy as np

from llava_doors.door import Declaration
from llava_eval.metric import Scorer
from llava_eval.truth import Truth, centres_inside

DECLARATION = Declaration(
    "pointing_game",
    "1 where the strongest patch has its centre in the object, else 0; patches that tie share it.",
    "llava_eval.metrics.pointing_game:PointingGame",
    traits={"higher_is_better": True, "needs_model": False},
)


class PointingGame:
    """The share of the strongest patches that have their centre in the truth; a flat map scores as chance does."""

    name, higher_is_better, needs_model = DECLARATION.name, True, False

    def score(self, values: np.ndarray, grid: np.ndarray, truth: Truth, scorer: Scorer | None) -> float:
        """0 to 1; `scorer` is not asked."""
        return float(peak_share(values.ravel(), centres_inside(grid, truth).ravel()))


def peak_share(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """How many of a map's strongest patches lie inside, of many maps at once.

    Args:
        values: [..., patch], any float.
        inside: bool [patch].

    Returns:
        float64 [...]: 0 or 1 where one patch is the strongest, a share where several tie.
    """
    tied = values == values.max(-1, keepdims=True)  # [..., patch]
    found: np.ndarray = (tied & inside).sum(-1) / tied.sum(-1)
    return found
