"""Single values of a request: whole numbers, numbers, words, lists of indices, each checked in one pass.

Flow: a value of parsed JSON -> the same value typed, or `invalid`: the refusal that names field, value and what is
allowed. A list of thousands costs no more than looking at each entry once.
"""

from __future__ import annotations

import itertools
import reprlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from llava_wire.errors import RequestError, nearest

MAX_INTEGER = 2**31 - 1
"""The largest whole number of an option, but for seeds; a model's own limits are far below."""
_MAX_LIST = 4096

Pairs = tuple[tuple[int, int], ...]


class _Beginning(reprlib.Repr):
    """Shows the beginning of a value; the whole of a stranger's list may be megabytes."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlist = self.maxtuple = self.maxdict = 40
        self.maxstring = self.maxother = 200

    def repr_int(self, value: int, level: int) -> str:
        """Python writes no whole number of more than some thousand digits."""
        return repr(value) if value.bit_length() < 1024 else f"a whole number of {value.bit_length()} bits"

    def repr_dict(self, value: Mapping[Any, Any], level: int) -> str:
        """The first members as they come; all of them would be sorted otherwise."""
        return super().repr_dict(dict(itertools.islice(value.items(), self.maxdict + 1)), level)


_BEGINNING = _Beginning()


def invalid(field: str, value: object, allowed: str, what: str = "") -> RequestError:
    """The error for a value that does not fit: `got X, expected Y`."""
    shown = _BEGINNING.repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return RequestError("invalid", field, f"got {what + ' ' if what else ''}{shown}, expected {allowed}")


def index_list(value: object, field: str, allowed: str) -> tuple[int, ...]:
    """A list of indices from 0, each once; `allowed` is said of what is no list of them."""
    if not isinstance(value, list) or not 1 <= len(value) <= _MAX_LIST:
        raise invalid(field, value, allowed)
    numbers = [_whole(item) for item in value]
    if (first := _first_wrong(numbers)) is not None:
        integer(value[first], f"{field}[{first}]", 0)
        raise invalid(f"{field}[{first}]", value[first], "each index once; leave the repeated one out")
    return tuple(number for number in numbers if number is not None)


def pair_list(value: list[Any], field: str) -> Pairs:
    """A list of [layer, head] pairs, each once."""
    if len(value) > _MAX_LIST:
        raise invalid(field, value, f"at most {_MAX_LIST} pairs")
    found = [_pair(item) for item in value]
    if (first := _first_wrong(found)) is not None:
        item, name = value[first], f"{field}[{first}]"
        if len(item) != 2:
            raise invalid(name, item, "a pair [layer, head]")
        for i in (0, 1):
            integer(item[i], f"{name}[{i}]", 0)
        raise invalid(name, item, "each pair once; leave the repeated one out")
    return tuple(pair for pair in found if pair is not None)


def _pair(item: list[Any]) -> tuple[int, int] | None:
    if len(item) != 2:
        return None
    layer, head = _whole(item[0]), _whole(item[1])
    return None if layer is None or head is None else (layer, head)


def _first_wrong(found: Sequence[Hashable | None]) -> int | None:
    """The place of the first that is None or was there before. Looked for only when there is one: lists are long."""
    if None not in found and len(set(found)) == len(found):
        return None
    seen: set[Hashable | None] = {None}
    for i, one in enumerate(found):
        if one in seen:
            return i
        seen.add(one)
    return None


def _whole(value: object, low: int = 0, high: int = MAX_INTEGER) -> int | None:
    """A whole number in its range, or None. 3.0 is one, as JSON Schema has it."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high else None


def integer(value: object, field: str, low: int, high: int = MAX_INTEGER) -> int:
    """A whole number from `low` to `high`; 3.0 is one, as JSON Schema has it."""
    number = _whole(value, low, high)
    if number is None:
        above = isinstance(value, int | float) and value > high
        ranged = above or high != MAX_INTEGER
        raise invalid(
            field, value, f"a whole number from {low} to {high}" if ranged else f"a whole number of {low} or more"
        )
    return number


def number(value: object, field: str, low: float, high: float) -> float:
    """A number from `low` to `high`."""
    # Not a number and the infinities are between no two numbers; a whole number may be too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise invalid(field, value, f"a number from {low:g} to {high:g}")
    return float(value)


def choice(value: object, field: str, allowed: tuple[str, ...]) -> Any:
    """One of some words."""
    if not isinstance(value, str) or value not in allowed:
        hint = nearest(value, allowed) if isinstance(value, str) else ""
        raise invalid(field, value, f"{list(allowed)}{hint}")
    return value
