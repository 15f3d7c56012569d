"""Agreement: how closely a head's map follows what the patches contributed to the word's logit. It needs no boxes.

r = the linear correlation over patches of a head's attention with the contributions. Measured on llava-shapes with 20
words, the head that agrees most points at .84 (colour words) and .94 (shape words) of other scenes, more than the head
that 20 boxes find (.79, .91). A rank correlation over patches finds other heads (.74, .61): among the many patches that
hardly matter, order is noise. Direct logit attribution in place of contributions does the same (.83, .93), and worse
where other words carry the answer over ("Yes": .77 against .88).
"""

from __future__ import annotations

import numpy as np

from llava_doors.door import Declaration
from llava_eval.criterion import WordMaps

DECLARATION = Declaration(
    "agreement",
    "The correlation of a head's map with the contributions of the patches to the word's logit; needs no boxes.",
    "llava_eval.criteria.agreement:Agreement",
    traits={"needs_boxes": False, "needs_contributions": True},
)


class Agreement:
    """The correlation of every head's map with one reference."""

    def measure(self, word: WordMaps) -> np.ndarray | None:
        """[1, layer, head], -1 to 1; 0 for a head whose map is flat; None without contributions, or for flat ones."""
        if word.contributions is None:
            return None
        reference, maps = _centred(word.contributions), _centred(word.maps)
        length = np.sqrt((reference**2).sum())
        if not length:
            return None
        lengths = np.sqrt((maps**2).sum(-1))  # [layer, head]
        found: np.ndarray = (maps @ reference) / np.where(lengths > 0, lengths * length, np.inf)
        return found[None]

    def scores(self, measured: np.ndarray) -> np.ndarray:
        """[word, layer, head]: as it was measured."""
        return measured[:, 0]


def _centred(values: np.ndarray) -> np.ndarray:
    exact = values.astype(np.float64)
    centred: np.ndarray = exact - exact.mean(-1, keepdims=True)
    return centred
