"""The tables of docs/methods.md, between marks.

Flow: docs/benchmarks/truth.json -> what was measured, pointing of every view with its controls, pointing by question,
false alarms of sinks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.known.faith import CONTROL, TRUE_BOX, mean
from bench.known.figures import GOALS, GROUPS, interval, missed, scenes, words
from bench.known.scores import NEIGHBOUR, TURNED
from bench.known.views import RANDOM_HEAD, UNIFORM
from bench.parts.intervals import Interval, over_scenes
from bench.parts.results import Result
from servekit.paths import ROOT

PAGE = ROOT / "docs" / "methods.md"
FAITH_BEGIN, FAITH_END = (
    "<!-- faithfulness: written by python -m bench.known.faithfulness -->",
    "<!-- faithfulness: end -->",
)
BEGIN, END = "<!-- truth: written by python -m bench.known.truth -->", "<!-- truth: end -->"
_SHOWN = {
    "colour": "colour", "shape": "shape", "answers": "answers", "again": "named again", "energy": "energy",
    "box": "IoU ≥ .5", NEIGHBOUR: "a word beside", TURNED: "transposed",
}  # fmt: skip
_NARROW = ("again", "box", NEIGHBOUR, TURNED)
"""Columns without an interval."""


def replaced(document: str, result: Result) -> str:
    """The document with the tables of pointing between their marks."""
    return between(document, BEGIN, END, tables(result))


def faith_replaced(document: str, result: Result) -> str:
    """The document with the table of metrics between its marks."""
    return between(document, FAITH_BEGIN, FAITH_END, faith_table(result))


def faith_table(result: Result) -> str:
    """Markdown of a measurement of metrics."""
    lines = head(["metric", "hidden patches", "Spearman with pointing", TRUE_BOX, CONTROL, "place of the true box"])
    for figure in result.figures:
        if figure.note:
            name, _, baseline = figure.name.partition(", ")
            found = Interval(figure.value, figure.low or 0.0, figure.high or 0.0)
            means = (cell(mean(result.raw, one, figure.name)) for one in (TRUE_BOX, CONTROL))
            lines.append(row([f"`{name}`", baseline, cell(found), *means, figure.note.partition("number ")[2]]))
    return f"{result.what}\n\n" + "\n".join(lines)


def between(document: str, begin: str, end: str, text: str) -> str:
    """The document with a text between two marks, in place of what stood there."""
    before, rest = document.split(begin)
    after = rest.split(end)[1]
    return f"{before}{begin}\n{text}\n{end}{after}"


def tables(result: Result) -> str:
    """Markdown of a measurement."""
    raw = {name: series for name, series in result.raw.items() if name != "sinks"}
    parts = [_said(result.settings, raw), _pointing(raw, result.settings), _verdict(result)]
    return "\n\n".join([*parts, _by_question(raw), _sinks(result.raw["sinks"])])


def order(raw: Mapping[str, Any]) -> list[str]:
    """The judged views, the best one first, controls last."""
    views = [name for name in raw if name not in ("words", RANDOM_HEAD, UNIFORM)]
    found = {name: one.value for name in views if (one := interval(raw, name, "all"))}
    return [*sorted(found, key=lambda name: -found[name]), RANDOM_HEAD, UNIFORM]


def _said(settings: Mapping[str, Any], raw: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{words(raw, column):,} {what}" for column, what in (
        ("colour", "colour and"), ("shape", "shape words of descriptions"), ("answers", "answer words"),
        ("again", "names that stand in the question already"),
    )).replace("and, ", "and ")  # fmt: skip
    return (
        f"One tiny model, llava-shapes (4 layers of 8 heads, 8 x 8 patches), on {settings['scenes']} scenes that it "
        f"was never trained or tuned on (seed {settings['seed']}; {settings['questions']:,} questions, "
        f"{settings['right']:,} answered right), asked of a real server over HTTP, maps in {settings['precision']}: "
        f"{counts}. In parentheses 95 % intervals over scenes (bootstrap)."
    )


def _pointing(raw: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    lines = head(["view", *_SHOWN.values()])
    for view in order(raw):
        cells = [cell(interval(raw, view, column), narrow=column in _NARROW) for column in _SHOWN]
        seen = scenes(raw, view)
        fewer = f" ({seen} scene{'s' * (seen != 1)})" if seen < settings["scenes"] else ""
        lines.append(row([_titled(view) + fewer, *cells]))
    return "\n".join(lines)


def _verdict(result: Result) -> str:
    judged = [figure for figure in result.figures if figure.met is not None]
    wrong = [figure for figure in judged if missed(figure)]
    said = f"Targets of {', '.join(f'`{name}`' for name in GOALS)}, their controls and `sink_free`: "
    said += f"{len(judged) - len(wrong)} of {len(judged)} met, {sum(figure.met is True for figure in judged)} of them "
    said += "by the far end of the interval too"
    for one in wrong:
        said += f"; **missed**: {one.name}, {cell(Interval(one.value, one.low or 0, one.high or 0))}"
    return f"{said} ([benchmarks](benchmarks/README.md#where-methods-point))."


def _by_question(raw: Mapping[str, Any]) -> str:
    lines = head(["view", *(f"{group} ({words(raw, group):,})" for group in GROUPS), f"all ({words(raw, 'all'):,})"])
    for view in order(raw):
        cells = [cell(interval(raw, view, column), narrow=True) for column in (*GROUPS, "all")]
        lines.append(row([_titled(view), *cells]))
    return "\n".join(lines)


def _sinks(sinks: Mapping[str, Any]) -> str:
    parts = []
    for selection, alarms in sinks["alarms"].items():
        share = over_scenes(alarms, sinks["answers"])
        value, low, high = (f"{100 * one:.1f}" for one in (share.value, share.low, share.high))
        parts.append(f"{sum(alarms)} in {_view_of(selection)} ({value} %, {low} to {high})")
    total = sum(sinks["answers"])
    return f"False alarms of `sink_free`, of {total:,} answers of a model without sinks: {'; '.join(parts)}."


def _view_of(selection: str) -> str:
    return selection if " " in selection else f"the view `{selection}`"


def _titled(view: str) -> str:
    """A method's name as code, the rest of a view's name as words."""
    name, comma, rest = view.partition(", ")
    return f"`{name}`{comma}{rest}" if " " not in name else name


def cell(one: Interval | None, *, narrow: bool = False) -> str:
    """A share with its interval, or alone where it is narrow; empty for none."""
    if one is None:
        return ""
    return _short(one.value) if narrow else f"{_short(one.value)} ({_short(one.low)}-{_short(one.high)})"


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def head(names: Sequence[str]) -> list[str]:
    """The first lines of a table."""
    return [row(names), f"| --- |{' ---: |' * (len(names) - 1)}"]


def row(cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"
