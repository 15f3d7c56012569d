"""Short forms of the options on the command line: `0,2-3`, `2.4,0.5`, `name=mean,heads=all`.

Flow: one argument's text -> the JSON value that the server expects; what it means is the server's to check. Commands
that ask for an answer take the same arguments (`add_what`, `add_how`).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llava_doors.door import Door
from llava_viewer.cli.console import NamedFileError
from llava_viewer.heads.sets import HeadSet, SetsError, read_set

VIEW_KEYS = ("name", "layers", "heads", "reduction", "method", "parameters")
_NUMBERS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
_PAIRS = re.compile(r"\d+\.\d+(,\d+\.\d+)*")
_NAME = re.compile(r"[A-Za-z][\w.-]*")
_MAX_COUNT = 4096


class ChosenHeads(list[list[int]]):
    """The heads of a set in a file, as a request names them.

    Args:
        found: the set, which says whose heads they are.
    """

    def __init__(self, found: HeadSet) -> None:
        super().__init__([layer, head] for layer, head in found.heads)
        self.found = found


def add_what(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what a record holds."""
    what = parser.add_argument_group("what to record")
    what.add_argument("--layers", type=indices, help="all, or numbers from 0: 0,1,2 or 0-3")
    what.add_argument(
        "--heads", type=heads, help="the same, LAYER.HEAD pairs (2.4,0.5), a head set's name, or FILE.json#NAME"
    )
    what.add_argument("--reduction", help="what is averaged: none, heads, layers_heads, or all (steps too)")
    what.add_argument("--method", help="how the maps are made; `llava-viewer methods` lists them")
    what.add_argument(
        "--parameter",
        type=parameter,
        action="append",
        metavar="NAME=VALUE",
        help="of the method; repeatable",
    )
    what.add_argument(
        "--view",
        type=view,
        action="append",
        metavar="VIEW",
        help="a named selection, instead of the five above; repeatable: name=why,method=contributions,"
        """parameters={"rival":"red"}, or name=mean,layers=0-2,heads=all,reduction=layers_heads, or one JSON object""",
    )
    what.add_argument("--steps", type=indices, help="tokens of the answer: all, or numbers from 0: 0,1,2 or 0-3")
    what.add_argument("--rows", help="whose attention: answer (its tokens), prompt (the question's), or both")
    what.add_argument(
        "--precision",
        help="of the stored maps: uint8, float16, float32, or blocks (of shares: a seventh of the bytes)",
    )
    what.add_argument(
        "--check",
        type=checks,
        metavar="NAMES",
        help="what is tested about the answer: image (default), image,patches, none, or JSON with parameters",
    )


def add_how(parser: argparse.ArgumentParser) -> None:
    """The arguments that say how an answer is chosen."""
    how = parser.add_argument_group("how to answer")
    how.add_argument("--max-new-tokens", type=int, metavar="N", help="the answer ends here at the latest")
    how.add_argument("--template", help="chat: PROMPT is a question; raw: the whole prompt, roles and one <image>")
    how.add_argument("--temperature", type=float, metavar="T", help="sample instead of taking the most probable token")
    how.add_argument("--top-p", type=float, metavar="P", help="sample among the likeliest tokens that make up P")
    how.add_argument("--top-k", type=int, metavar="K", help="sample among the K likeliest tokens")
    how.add_argument("--seed", type=int, metavar="N", help="of the samples: the same seed draws the same answer")
    how.add_argument("--deadline-ms", type=int, metavar="MS", help="stop after so long and give what is there")
    how.add_argument("--num-beams", type=int, metavar="N", help="beam search")
    how.add_argument("--length-penalty", type=float, metavar="P", help="of beams: above 0 favours longer answers")
    how.add_argument("--num-return-sequences", type=int, metavar="N", help="several answers: beams, or samples")


def indices(text: str) -> Any:
    """ "all", or a list from `0,2,5-7`; for layers and steps."""
    if text == "all":
        return text
    if not _NUMBERS.fullmatch(text):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected all, numbers (0,1,2) or ranges (0-3)")
    return _numbers(text)


def heads(text: str, option: str = "--heads") -> Any:
    """ "all", a list of heads, a list of [layer, head] from `2.4,0.5`, JSON or FILE.json#NAME, or a head set's name.

    Args:
        text: the argument's.
        option: what an error calls it.

    Raises:
        NamedFileError: a file's set that cannot be used.
    """
    if text.startswith("["):
        return _json(text)
    if _PAIRS.fullmatch(text):
        return [[int(number) for number in pair.split(".")] for pair in text.split(",")]
    if _NUMBERS.fullmatch(text):
        return _numbers(text)
    file, _, name = text.partition("#")
    if "#" in text or file.lower().endswith(".json"):
        try:
            return ChosenHeads(read_set(Path(file), name))
        except (SetsError, OSError) as error:
            said = f"{file}: {error.strerror}" if isinstance(error, OSError) else error
            raise NamedFileError(f"{option}: {said}") from error
    if _NAME.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(
        f"got {text!r}, expected all, heads (0,1 or 0-3), LAYER.HEAD pairs (2.4,0.5), a head set's name, or that of a "
        "file (heads.json#NAME)"
    )


def _view_heads(text: str) -> Any:
    return heads(text, "--view")


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
        readers: dict[str, Callable[[str], Any]] = {"layers": indices, "heads": _view_heads, "parameters": _json}
        found[key] = readers.get(key, str)(value)
    if "name" not in found:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected views with a name; add name=NAME")
    return found


def chosen_heads(options: Mapping[str, Any]) -> list[HeadSet]:
    """The sets of files that a request's options name heads by."""
    views = [options, *options.get("views", ())]
    return [heads.found for view in views if isinstance(heads := view.get("heads"), ChosenHeads)]


def checks(text: str) -> list[Any]:
    """Names of checks, `image,patches`; no name for `none`; or JSON, one object of name and parameters or a list.

    The server says which there are.
    """
    if text.startswith(("[", "{")):
        given = _json(text)
        return given if isinstance(given, list) else [given]
    return [] if text == "none" else text.split(",")


def parameter(text: str) -> tuple[str, str]:
    """One parameter of a method, `NAME=VALUE`; `parameters` says what the value is."""
    name, equals, value = text.partition("=")
    if not _NAME.fullmatch(name) or not equals:
        raise argparse.ArgumentTypeError(f"got {text!r:.80}, expected NAME=VALUE")
    return name, value


def parameters(door: Door, name: str | None, given: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The values of the parameters of what is behind a door, such as a method's, as the server expects them.

    Args:
        door: of its kind.
        name: its declaration, where it is installed here, says which values are texts.
        given: names and values; one that is no text, or of a name that is not known here, is JSON where it is some.

    Raises:
        DoorError: a package declares something that cannot be used.
    """
    declared = door.known().get(name or "")
    texts = {one.name for one in declared.parameters if one.kind == "text"} if declared else set()
    return {name: value if name in texts else _json_or_text(value) for name, value in given}


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


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
