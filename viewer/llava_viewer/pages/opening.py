"""The state that a report opens in: the text of an address -> a checked `Opening`, which the templates mark.

The names are those of the page's own address (docs/report-controls.md), or in full: "t=4&v=mean", "token=4&view=mean".
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote_plus

from llava_viewer.look.colormap import PALETTES
from llava_viewer.look.view_model import Report, Stage, ViewPanel

FULL_NAMES = {
    "token": "t", "view": "v", "layer": "l", "head": "h", "mode": "m", "palette": "p", "scale": "s", "bar": "b",
    "opacity": "o", "answer": "n",
}  # fmt: skip
_NAMES = ("t", "v", "l", "h", "m", "p", "s", "b", "o", "pa", "pb", "box", "n")
_MODES, _SCALES = ("heat", "spotlight", "map", "photo"), ("token", "shared")
LARGEST = "max"
"""What stands after the tokens of a phrase where the largest of their values are shown, and not their mean."""


class OpeningError(ValueError):
    """A state that the report does not have; the message names the part."""


@dataclass(frozen=True)
class Opening:
    """What is chosen in a page as it opens.

    Args:
        checked: the ids of the radio buttons that are on.
        address: the state as the page's address, "" where it is the usual one.
        row: the chosen token's key.
    """

    checked: frozenset[str]
    address: str
    row: str


def usual(report: Report) -> Opening:
    """The state of a page that is told nothing."""
    chosen = _usual(report)
    return Opening(frozenset(filter(None, chosen.values())), "", chosen["t"])


def answer_of(text: str, answers: int) -> int:
    """The number of the answer that a text names, as `Record.sequence` counts; the first where it names none.

    Raises:
        OpeningError: there is no such answer.
    """
    given = _parts(text).get("n", "0") if text else "0"
    if not (given.isascii() and given.isdigit() and int(given[:4]) < answers and len(given) <= 4):
        most = f"0 to {answers - 1}" if answers > 1 else "0, the only one"
        raise _refusal("n", given, f"the number of an answer, {most}", "leave it out for the first")
    return int(given)


def opening_of(report: Report, text: str) -> Opening:
    """The state that a text names; what it leaves out is as usual. Which of several answers `answer_of` says.

    Raises:
        OpeningError: a part that the page does not have, or a value that this report does not.
    """
    state, chosen = _parts(text), _usual(report)
    view = _view(report, state["v"]) if "v" in state else report.views[0]
    chosen["v"] = view.key
    if "t" in state:
        chosen["t"] = _tokens(report, state["t"], "t")[0]
    layer, head = _cell(view, state.get("l", ""), state.get("h", ""))
    if slot := _slot(view, layer, head):
        chosen[f"{view.key}s"] = slot
    bars = _bars(report)
    for name, known in (("m", _MODES), ("p", PALETTES), ("s", _SCALES), ("b", bars)):
        if name in state and state[name] not in known:
            raise _refusal(name, state[name], f"one of {', '.join(known)}", "or leave it out")
        if name in state:
            chosen[name] = f"{name}-{state[name]}"
    if "o" in state and not (state["o"].isascii() and state["o"].isdigit() and int(state["o"]) <= 100):
        raise _refusal("o", state["o"], "a whole number from 0 to 100", "it is the opacity in percent")
    if "box" in state:
        _check_box(view.stage, state["box"])
    for name in ("pa", "pb"):
        if name in state and not (name == "pb" and state[name] == "mean"):
            _check_kept(report, name, state[name])
    address = "&".join(f"{name}={quote_plus(state[name], safe=',')}" for name in _NAMES if name in state)
    return Opening(frozenset(filter(None, chosen.values())), f"#{address}", chosen["t"])


def _usual(report: Report) -> dict[str, str]:
    """By group of radio buttons the id that is on."""
    return {
        "t": report.first_key,
        "v": report.views[0].key,
        "m": "m-heat",
        "p": f"p-{PALETTES[0]}",
        "s": "s-token",
        "b": f"b-{_bars(report)[0]}",
        **{f"{view.key}s": view.slots[0].key for view in report.views if len(view.slots) > 1},
    }


def _bars(report: Report) -> list[str]:
    """What the bars under the words may show, the usual first."""
    shares = any(view.share for view in report.views)
    return [*["need"] * report.tested, *["share"] * shares, "prob"]


def _parts(text: str) -> dict[str, str]:
    told = text.strip().removeprefix("#")
    try:
        pairs = parse_qsl(told, keep_blank_values=True, strict_parsing=True, max_num_fields=len(_NAMES))
    except ValueError:
        raise _refusal("state", text, "NAME=VALUE&NAME=VALUE", "copy it from a report's address after the #") from None
    found: dict[str, str] = {}
    for given, value in pairs:
        name = FULL_NAMES.get(given, given)
        if name not in _NAMES:
            known = ", ".join((*_NAMES, *FULL_NAMES))
            raise _refusal("state", given, f"one of {known}", "docs/report-controls.md has them")
        if name in found:
            raise _refusal(name, value, f"it once, and it is {found[name]:.60} already", "leave one out")
        found[name] = value
    return found


def _refusal(name: str, got: str, expected: str, do: str) -> OpeningError:
    return OpeningError(f"{name}: got {got!r:.80}, expected {expected}; {do}")


def _view(report: Report, name: str, field: str = "v") -> ViewPanel:
    found = next((view for view in report.views if view.name == name), None)
    if found is None:
        raise _refusal(field, name, f"one of {', '.join(view.name for view in report.views):.400}", "name one of them")
    return found


def _tokens(report: Report, text: str, field: str) -> list[str]:
    """The keys of one token, or of the tokens of a phrase: "4", "q40", "4,5", "4,5,max"."""
    keys = [row.key for row in (*report.question_rows, *report.rows) if row.key]
    names = text.split(",")
    if len(names) > 2 and names[-1] == LARGEST:
        names.pop()
    found = [name if name in keys else f"t{name}" for name in names]
    for name, key in zip(names, found, strict=True):
        if key not in keys or found.count(key) > 1 or key[0] != found[0][0]:
            told = [key.removeprefix("t") for key in keys]
            most = f"{told[0]} to {told[-1]}" if told else "none"
            raise _refusal(
                field,
                name,
                f"tokens of {most}, each once, of answer or question",
                "name one that the record has a map for",
            )
    return found


def _cell(
    view: ViewPanel, layer: str, head: str, fields: tuple[str, str] = ("l", "h")
) -> tuple[int | None, int | None]:
    """The layer and head that are named; those of a view of pairs go together."""
    layers, heads = view.layers.split(), view.heads.split()
    if view.pairs:
        pairs = view.pairs.split()
        if (layer or head) and f"{layer}.{head}" not in pairs:
            raise _refusal(
                "/".join(fields), f"{layer}.{head}", f"a pair of view {view.name!r:.60}: {', '.join(pairs):.200}",
                "name both",
            )  # fmt: skip
    else:
        for field, value, kept in ((fields[0], layer, layers), (fields[1], head, heads)):
            if value and value not in kept:
                known = f"{', '.join(kept) or 'none'} in view {view.name!r:.60}"
                raise _refusal(field, value, f"{known:.200}", "name one that the view keeps apart, or leave it out")
    return (int(layer) if layer else None), (int(head) if head else None)


def _slot(view: ViewPanel, layer: int | None, head: int | None) -> str:
    """The slot of a single map, for a page whose script does not run; "" where it has none of its own."""
    layers, heads, pairs = view.layers.split(), view.heads.split(), view.pairs.split()
    if len(view.slots) < 2 or (layer is None and head is None):
        return ""
    if pairs:
        return view.slots[1 + pairs.index(f"{layer}.{head}")].key
    lacks = (layer is None and len(layers) > 1) or (head is None and len(heads) > 1)
    if lacks:
        return ""
    row = layers.index(str(layer)) if layer is not None else 0
    column = heads.index(str(head)) if head is not None else 0
    return view.slots[1 + row * max(1, len(heads)) + column].key


def _check_box(stage: Stage, text: str) -> None:
    x0, y0, x1, y1 = (float(end) for end in stage.grid_numbers.split())
    seen = max(0.0, x0), max(0.0, y0), min(stage.width_px, x1), min(stage.height_px, y1)
    try:
        box = [float(end) for end in text.split(",")] if re.fullmatch(r"[-+.,eE0-9]+", text) else []
    except ValueError:
        box = []
    fits = len(box) == 4 and all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3]
    if not fits or box[2] <= seen[0] or box[3] <= seen[1] or box[0] >= seen[2] or box[1] >= seen[3]:
        size = f"{stage.width_px} × {stage.height_px} px"
        raise _refusal(
            "box",
            text,
            f"X0,Y0,X1,Y1 in px of the image ({size}), on what the model saw of it",
            "draw it in the report",
        )


def _check_kept(report: Report, field: str, text: str) -> None:
    """A map that is kept to be compared: tokens~view~layer~head."""
    parts = text.split("~")
    if len(parts) < 4:
        raise _refusal(field, text, "TOKEN~VIEW~LAYER~HEAD, or mean for pb", "copy it from a report's address")
    tokens, name, (layer, head) = parts[0], "~".join(parts[1:-2]), parts[-2:]
    view = _view(report, name, field)
    if tokens or view.has_rows:
        _tokens(report, tokens, field)
    _cell(view, layer, head, (field, field))
