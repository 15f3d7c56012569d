"""From sums per scene to numbers with intervals, and to what was asked of them.

Flow: raw numbers of docs/benchmarks/truth.json -> `interval`, of words drawn by scenes -> `Figure`s with targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.known.scores import AGAIN, METRICS, NEIGHBOUR, TURNED
from bench.known.views import RANDOM_HEAD, UNIFORM
from bench.parts.intervals import Interval, over_scenes
from bench.parts.results import Figure

Raw = Mapping[str, Any]
GROUPS = ("colour", "shape", "what colour", "what shape", "where", "yes")
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "colour": ("colour",),
    "shape": ("shape",),
    "answers": ("what colour", "where", "yes"),
    AGAIN: (AGAIN,),
    "all": GROUPS,
}
"""Words that count together in pointing. "What shape" is no part of answers: every method that points has it right."""
GOALS: Mapping[str, Mapping[str, float]] = {
    "contributions": {"colour": 0.93, "shape": 0.94, "answers": 0.90, "energy": 0.60},
    "value_norm": {"colour": 0.86, "shape": 0.92, "answers": 0.88},
    "contrast": {"colour": 0.87, "shape": 0.93},
}
_WIDE = "the estimate meets it; so many scenes leave its interval too wide"
BELOW, FALSE_ALARMS = 0.2, 0.02
"""How far controls must lie below, as a part of the words; how many answers may lose a patch that is no sink."""
CONTROLS = {
    RANDOM_HEAD: "a random head",
    UNIFORM: "an even map",
    NEIGHBOUR: "its own map of a word beside, which is not about the object",
    TURNED: "its own map transposed",
}


def interval(raw: Raw, view: str, column: str) -> Interval | None:
    """A column of a view: pointing of some words, a metric or a misreading of all of them; None where it has none.

    Args:
        column: one of `COLUMNS`, a group of words, one of `METRICS`, `NEIGHBOUR` or `TURNED`.
    """
    sums, counts = _series(raw, view, column)
    return over_scenes(sums, counts) if sums and sum(counts) else None


def scenes(raw: Raw, view: str) -> int:
    """On how many scenes a view was judged."""
    return len(next(iter(raw[view].values())))


def words(raw: Raw, column: str) -> int:
    """How many words a column has on all scenes."""
    return sum(sum(raw["words"].get(group, ())) for group in COLUMNS.get(column, (column,)))


def figures(raw: Raw, sinks: Mapping[str, Any]) -> list[Figure]:
    """What has a target: pointing and energy, how far each control lies below, and false alarms of sinks."""
    rows = []
    for view, goals in GOALS.items():
        for column, goal in goals.items():
            found = interval(raw, view, column)
            if found is not None:
                what = f"{column} words point" if column in COLUMNS else f"{column} in the box"
                note = _WIDE if found.low < goal <= found.value else ""
                rows.append(Figure.of(f"{view}: {what}", found, "of words", at_least=goal, note=note))
        for control, what in CONTROLS.items():
            rows.append(Figure.of(f"{view}: more than {what}", above(raw, view, control), "of words", at_least=BELOW))
    for selection, alarms in sinks["alarms"].items():
        share = over_scenes(alarms, sinks["answers"])
        rows.append(Figure.of(f"sink_free, {selection}: false alarms", share, "of answers", at_most=FALSE_ALARMS))
    return rows


def missed(figure: Figure) -> bool:
    """Whether the estimate itself misses its target, not only the far end of its interval."""
    low = figure.at_least is not None and figure.value < figure.at_least
    return low or (figure.at_most is not None and figure.value > figure.at_most)


def above(raw: Raw, view: str, control: str) -> Interval:
    """How many more words of all point by a view than by a control, scene by scene."""
    sums, counts = _series(raw, view, "all")
    if control in (NEIGHBOUR, TURNED):
        less, _ = _series(raw, view, control)
    else:
        less, _ = _series(raw, control, "all")
    return over_scenes(sums, counts, less)


def _series(raw: Raw, view: str, column: str) -> tuple[list[float], list[int]]:
    """Sums and numbers of words per scene."""
    per, seen = raw[view], scenes(raw, view)
    counted = (NEIGHBOUR,) if column == NEIGHBOUR else COLUMNS.get(column, GROUPS if _of_all(column) else (column,))
    scored = (column,) if _of_all(column) else counted
    sums = [per[key] for key in scored if key in per]
    counts = [raw["words"][key][:seen] for key in counted if key in raw["words"]]
    return [sum(each) for each in zip(*sums, strict=True)], [sum(each) for each in zip(*counts, strict=True)]


def _of_all(column: str) -> bool:
    """Whether a column is a sum over all words that keeps no groups apart."""
    return column in METRICS or column in (NEIGHBOUR, TURNED)
