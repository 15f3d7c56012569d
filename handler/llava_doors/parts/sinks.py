"""Which patches are sinks: those that nearly every word of an answer reads, whatever the word is. numpy alone.

The rule needs no knowledge of a model: measured on planted sinks it found all of them and took no object's patch. What
Kang et al. 2025 (arXiv 2503.03321) find by single dimensions of hidden states needs to know which dimensions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TIMES_EVEN, PART_OF_ROWS, LEAST_ROWS = 2.0, 0.9, 5
"""How many times the even spread a sink draws, in which part of the rows, and of how many rows at least."""


def sink_patches(rows: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_] | None:
    """Patches with at least twice the even spread in at least 90 % of the rows.

    Args:
        rows: [row, patch], the attention of the rows of an answer's ordinary words; the even spread of a row is its sum
            over the image divided by the number of patches. Rows that read nothing of the image speak for no patch.

    Returns:
        [patch] bool; None for fewer than 5 rows, of which the rule can say nothing.
    """
    if len(rows) < LEAST_ROWS:
        return None
    even = rows.mean(axis=1, keepdims=True)
    drawn = (rows >= TIMES_EVEN * even) & (rows > 0)
    return np.asarray(drawn.mean(axis=0) >= PART_OF_ROWS)
