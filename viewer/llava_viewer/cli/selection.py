"""Short forms of the options on the command line: `0,2-3`, `2.4,0.5`, `name=mean,heads=all`.

Flow: one argument's text -> the JSON value that the server expects; what it means is the server's to check.
"""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

VIEW_KEYS = ("name", "layers", "heads", "reduction", "method", "parameters")
_NUMBERS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
_PAIRS = re.compile(r"\d+\.\d+(,\d+\.\d+)*")
_NAME = re.compile(r"[A-Za-z][\w.-]*")
_MAX_COUNT = 4096


def indices(text: str) -> Any:
    """ "all", or a list from `0,2,5-7`; for layers and steps."""
    if text == "all":
        return text
    if not _NUMBERS.fullmatch(text):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected all, numbers (0,1,2) or ranges (0-3)")
    return _numbers(text)


def heads(text: str) -> Any:
    """ "all", a list of heads, a list of [layer, head] from `2.4,0.5` or JSON, or the name of a head set."""
    if text.startswith("["):
        return _json(text)
    if _PAIRS.fullmatch(text):
        return [[int(number) for number in pair.split(".")] for pair in text.split(",")]
    if _NUMBERS.fullmatch(text):
        return _numbers(text)
    if _NAME.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(
        f"got {text!r}, expected all, heads (0,1 or 0-3), LAYER.HEAD pairs (2.4,0.5) or a head set's name"
    )


def view(text: str) -> dict[str, Any]:
    """One view: a JSON object, or `name=mean,layers=0-2,heads=all,reduction=layers_heads`; parameters are JSON."""
    if text.startswith("{"):
        given = _json(text)
        if not isinstance(given, dict):
            raise argparse.ArgumentTypeError(f"got {text!r}, expected a JSON object")
        return given
    found: dict[str, Any] = {}
    # A comma also separates numbers; only one before a known key starts the next part.
    for part in re.split(rf",(?=(?:{'|'.join(VIEW_KEYS)})=)", text):
        key, equals, value = part.partition("=")
        if key not in VIEW_KEYS or not equals or not value or key in found:
            raise argparse.ArgumentTypeError(
                f"got {part!r}, expected each of {', '.join(VIEW_KEYS)} once as KEY=VALUE, or one JSON object"
            )
        found[key] = {"layers": indices, "heads": heads, "parameters": _json}.get(key, str)(value)
    if "name" not in found:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected views with a name; add name=NAME")
    return found


def parameter(text: str) -> tuple[str, Any]:
    """One parameter of a method, `NAME=VALUE`: the value is JSON where it is some, else text."""
    name, equals, value = text.partition("=")
    if not _NAME.fullmatch(name) or not equals:
        raise argparse.ArgumentTypeError(f"got {text!r:.80}, expected NAME=VALUE")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def _numbers(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if high < low or high - low >= _MAX_COUNT:
            raise argparse.ArgumentTypeError(
                f"got the range {part!r}, expected LOW-HIGH of at most {_MAX_COUNT} numbers"
            )
        found += range(low, high + 1)
    return found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"got {text!r:.80}, expected JSON ({error})") from error
