"""A stranger's JSON: its size, numbers and count of values are bounded before and while it is parsed.

Flow: bytes -> how many values at most? -> `json.loads` with strict numbers -> an object. `check_plain` bounds what has
no shape of its own (checks, sampling, the run block).
"""

from __future__ import annotations

import json
import math
from typing import Any

from llava_wire.errors import RecordError, beginning
from llava_wire.limits import MAX_DEPTH, MAX_JSON_VALUES, MAX_NUMBER_CHARS, MAX_PIECE_CHARS, MAX_PLAIN_VALUES
from llava_wire.untrusted.question import json_values


def read_object(data: bytes, name: str, most_values: int = MAX_JSON_VALUES) -> dict[str, Any]:
    """The JSON object in a file's member.

    Args:
        data: UTF-8 text; the caller bounds its size.
        name: what errors call it.
        most_values: how many values it may hold.

    Raises:
        RecordError: "too_large" for too many values, "invalid" for anything else than one object with plain numbers.
    """
    most = json_values(data)
    if most > most_values:
        raise RecordError("too_large", f"{name}: got up to {most} values, expected {most_values}; ask for less")
    try:
        value = json.loads(data, parse_int=_integer, parse_float=_real, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise RecordError(
            "invalid", f"{name}: got no readable JSON ({error!s:.200}), expected an object; the file is damaged"
        ) from error
    if not isinstance(value, dict):
        raise RecordError("invalid", f"{name}: got {type(value).__name__}, expected an object; the file is damaged")
    return value


def check_plain(value: object, path: str) -> None:
    """Bounds values without a schema: how many there are, how deep they lie, how long their texts are.

    Raises:
        RecordError: "invalid", naming what is too much.
    """
    left = MAX_PLAIN_VALUES
    waiting: list[tuple[object, int]] = [(value, 0)]
    while waiting:
        found, depth = waiting.pop()
        left -= 1
        if left < 0:
            raise RecordError("invalid", f"{path}: got more values, expected {MAX_PLAIN_VALUES}; the file is damaged")
        if isinstance(found, dict | list):
            if depth >= MAX_DEPTH:
                raise RecordError(
                    "invalid", f"{path}: got lists or objects nested deeper, expected {MAX_DEPTH}; the file is damaged"
                )
            # One more than is left tells as much as all of them.
            inside = [*found, *found.values()] if isinstance(found, dict) else found[: left + 1]
            waiting += [(one, depth + 1) for one in inside[: left + 1]]
        elif isinstance(found, str):
            _check_text(found, path)


def _check_text(text: str, path: str) -> None:
    if len(text) > MAX_PIECE_CHARS:
        got = f"a text of {len(text)} characters"
        raise RecordError("invalid", f"{path}: got {got}, expected {MAX_PIECE_CHARS}; the file is damaged")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise RecordError("invalid", f"{path}: got half a character, expected text that UTF-8 can hold")


def _integer(text: str) -> int:
    _check_length(text)
    return int(text)


def _real(text: str) -> float:
    _check_length(text)
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text}")
    return number


def _check_length(text: str) -> None:
    if len(text) > MAX_NUMBER_CHARS:
        raise ValueError(f"a number of {len(text)} characters, {beginning(text)}")


def _refuse(name: str) -> float:
    raise ValueError(f"the number {name}")
