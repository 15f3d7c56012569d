"""What the check "patches" found: words with some patches alone, and hidden, beside random ones.

Flow: `WordPatches` of some words -> `PatchCheck.to_plain` -> `checks["patches"]` of a record, a list for each number ->
`PatchCheck.of`, which trusts no file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llava_wire.limits import MAX_MAP_VALUES, MAX_TOKENS

NAME = "patches"
MAX_WORDS = 100
"""Words of one check: with the lists of numbers that they have, a record's checks stay within their limits."""
_NUMBERS = (
    "alone", "hidden", "random_alone", "random_alone_low", "random_alone_high", "random_hidden", "random_hidden_low",
    "random_hidden_high",
)  # fmt: skip


@dataclass(frozen=True)
class WordPatches:
    """One word: its probabilities with some patches alone, everything else being their mean, and with them hidden.

    Args:
        token: its step.
        patches: which they are, ascending, in the order of the maps.
        alone, hidden: its probability.
        random_alone, random_hidden: the mean of the same for random sets of as many patches; low and high: the lowest
            and the highest of them.
    """

    token: int
    patches: tuple[int, ...]
    alone: float
    hidden: float
    random_alone: float
    random_alone_low: float
    random_alone_high: float
    random_hidden: float
    random_hidden_low: float
    random_hidden_high: float


@dataclass(frozen=True)
class PatchCheck:
    """The whole check.

    Args:
        view: whose maps named the patches; "" where the request named them.
        top: how many of a map's brightest patches were asked for; 0 where the request named them.
        sets: random sets; seed: of their random numbers.
        of: words that were asked for.
        words: those that were tested: a map without a value above 0 names no patches.
    """

    view: str
    top: int
    sets: int
    seed: int
    of: int
    words: tuple[WordPatches, ...]

    def to_plain(self) -> dict[str, Any]:
        """As a record's checks hold it, without the result."""
        return {
            "view": self.view,
            "top": self.top,
            "sets": self.sets,
            "seed": self.seed,
            "of": self.of,
            "tokens": [word.token for word in self.words],
            "patches": [" ".join(map(str, word.patches)) for word in self.words],
            **{name: [float(f"{getattr(word, name):.6g}") for word in self.words] for name in _NUMBERS},
        }

    @classmethod
    def of_checks(
        cls, checks: Mapping[str, Mapping[str, Any]], tokens: int = MAX_TOKENS, patches: int = MAX_MAP_VALUES
    ) -> PatchCheck | None:
        """What a record's checks hold; None where it is no such check, or makes no sense.

        Args:
            checks: of the record.
            tokens: of its answer.
            patches: of its grids.
        """
        found = checks.get(NAME, {})
        if found.get("result") != "measured":
            return None
        columns = [found.get(name) for name in ("tokens", "patches", *_NUMBERS)]
        numbers = [found.get(name) for name in ("top", "sets", "seed", "of")]
        view = found.get("view")
        lists = [column for column in columns if isinstance(column, list)]
        if not isinstance(view, str) or not all(map(_is_count, numbers)) or len(lists) < len(columns):
            return None
        if len({len(column) for column in lists}) > 1:
            return None
        words = [_word(row, tokens, patches) for row in zip(*lists, strict=True)]
        known = tuple(word for word in words if word is not None)
        steps = [word.token for word in known]
        if len(known) < len(words) or len(set(steps)) < len(steps):
            return None
        top, sets, seed, of = (int(number) for number in numbers if isinstance(number, int))
        return cls(view, top, sets, seed, of, known)


def brightest(values: npt.NDArray[np.floating[Any]], count: int) -> tuple[int, ...]:
    """The patches with the largest values of a map [patch] that are above 0, at most `count`, ascending.

    Of equal ones the first come first, so that whoever has the map finds the same.
    """
    order = np.argsort(-values, kind="stable")[:count]
    return tuple(sorted(int(patch) for patch in order if values[patch] > 0))


def usual_top(patches: int) -> int:
    """How many patches are asked for where nobody says: 4 of 64, and so for other grids."""
    return max(1, round(patches / 16))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _word(row: Sequence[object], tokens: int, patches: int) -> WordPatches | None:
    """One word of the lists, or None for what cannot be one."""
    token, named, *numbers = row
    if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < tokens or not isinstance(named, str):
        return None
    digits = named.split(" ")
    if len(digits) > patches or not all(one.isascii() and one.isdigit() and len(one) < 10 for one in digits):
        return None
    places = tuple(map(int, digits))
    if list(places) != sorted({*places}) or places[-1] >= patches:
        return None
    found = [float(one) for one in numbers if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(found) < len(numbers) or not all(math.isfinite(one) and 0 <= one <= 1.001 for one in found):
        return None
    return WordPatches(token, places, *found)
