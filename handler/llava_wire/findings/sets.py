"""What the check "sets" found: words with sets of patches that the request named, beside all patches and none.

Flow: log probabilities [set, token] -> `SetCheck.to_plain` -> `checks["sets"]` of a record, a text of numbers for each
set -> `SetCheck.of_checks`, which trusts no file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NAME = "sets"
MAX_SETS = 512
"""Sets of one check: with a text for each, a record's checks stay within their limits."""
MAX_SET_STEPS = 100
"""Words of one check, whose numbers stand in the text of a set."""
ALL, NONE = "all", "none"


@dataclass(frozen=True)
class SetCheck:
    """Log probabilities in nats of some words, each given the same words before it.

    Args:
        steps: the words, as tokens of the answer.
        logprobs: [step] by what the model saw: "all" patches, "none", and each set by the number that the request
            gave it, as text.
    """

    steps: tuple[int, ...]
    logprobs: Mapping[str, tuple[float, ...]]

    def to_plain(self) -> dict[str, Any]:
        """As a record's checks hold it, without the result."""
        texts = {name: " ".join(f"{value:.7g}" for value in found) for name, found in self.logprobs.items()}
        return {"steps": list(self.steps), "logprobs": texts}

    @classmethod
    def of_checks(cls, checks: Mapping[str, Mapping[str, Any]]) -> SetCheck | None:
        """What a record's checks hold; None where it is no such check, or makes no sense.

        Args:
            checks: of the record.
        """
        found = checks.get(NAME, {})
        steps, texts = found.get("steps"), found.get("logprobs")
        if found.get("result") != "measured" or not isinstance(steps, list) or not isinstance(texts, Mapping):
            return None
        if not all(isinstance(step, int) and not isinstance(step, bool) and step >= 0 for step in steps):
            return None
        read = {name: _numbers(text, len(steps)) for name, text in texts.items()}
        known = {name: values for name, values in read.items() if values is not None}
        return cls(tuple(steps), known) if len(known) == len(read) and {ALL, NONE} <= {*known} else None


def _numbers(text: object, count: int) -> tuple[float, ...] | None:
    """So many log probabilities of a text, or None for what is none."""
    parts: Sequence[str] = text.split(" ") if isinstance(text, str) else ()
    try:
        values = tuple(map(float, parts))
    except ValueError:
        return None
    return values if len(values) == count and all(math.isfinite(one) and one <= 0 for one in values) else None
