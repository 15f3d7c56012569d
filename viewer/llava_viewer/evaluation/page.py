"""The page of an evaluation: tables, plots and worst cases, without a script.

Flow: `Result`, reports of single items -> `evaluation_page` -> HTML.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llava_eval.answers import RULES
from llava_eval.metric import METRICS
from llava_eval.tally import Figure
from llava_viewer.evaluation.against import Against
from llava_viewer.evaluation.against_page import against_section
from llava_viewer.evaluation.result import ByShare, Result
from llava_viewer.evaluation.scores import ENERGY, EVEN, IMAGE_SHARE, POINTING, WORDS, Case, Key
from llava_viewer.look import colormap, wording
from llava_viewer.look.text import visible
from llava_viewer.pages.report import page
from llava_viewer.pages.styles import static_text
from llava_viewer.store.named import render_command

PLOT_PX, PLOT_EDGE_PX = (420, 240), 40
CELL_PX = (38, 22)
_MOST_CELLS = 4096
"""Heads of one heat table; more would be no table any more."""


@dataclass(frozen=True)
class Value:
    """A figure as a table has it; all texts empty where there is none."""

    text: str = ""
    interval: str = ""
    n: str = ""
    of: str = ""


@dataclass(frozen=True)
class Line:
    """A line of a table: what it is of, and its figures in the order of the columns."""

    names: tuple[str, ...]
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Point:
    """One point of a plot and its interval, px; low and high are the point's own where it has none."""

    x: float
    y: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Plot:
    """Accuracy by the image share of one view."""

    view: str
    points: tuple[Point, ...]
    auroc: str


@dataclass(frozen=True)
class Cell:
    """One head of a heat table, px and colours."""

    x: int
    y: int
    fill: str
    ink: str
    text: str
    title: str


@dataclass(frozen=True)
class Heat:
    """One metric of every head of a view for one kind of word."""

    title: str
    layers: tuple[tuple[int, int], ...]
    heads: tuple[tuple[int, int], ...]
    cells: tuple[Cell, ...]
    width: int
    height: int


@dataclass(frozen=True)
class Worst:
    """One item to look at."""

    id: str
    report: str
    command: str
    prompt: str
    answer: str
    expected: str
    told: str


def evaluation_page(result: Result, title: str, reports: Mapping[str, str], against: Against | None = None) -> str:
    """The page.

    Args:
        result: what was found.
        title: the heading.
        reports: links to reports by items' ids.
        against: the run held against another one.
    """
    figures = result.figures
    rules = [rule for rule in RULES if Key(rule) in figures]
    metrics = [name for name in result.wanted.metrics if any(key.figure == name for key in figures)]
    return page(
        "evaluation.html.j2",
        css=(static_text("base.css") + static_text("evaluation.css"),),
        scripts=(),
        title=title,
        model=result.model,
        count=f"{result.answered:,} of {wording.count(result.about.items, 'item')}",
        notes=list(_notes(result)),
        against=against_section(against) if against else None,
        rules=rules,
        answers=[
            Line((tag,), tuple(_value(figures.get(Key(rule, tag=tag))) for rule in rules)) for tag in _tags(figures)
        ]
        if rules
        else [],
        plots=[_plot(one) for one in result.by_share],
        rule=result.rule,
        size=PLOT_PX,
        edge=PLOT_EDGE_PX,
        shares=list(_share_lines(figures, tagged=False)),
        shares_by_tag=list(_share_lines(figures, tagged=True)),
        metrics=[(name, METRICS.find(name).summary) for name in metrics],
        maps=list(_map_lines(figures, metrics, tagged=False)),
        maps_by_tag=list(_map_lines(figures, metrics, tagged=True)),
        single=list(_single_lines(figures, metrics)),
        heats=list(_heats(figures)),
        even=EVEN,
        followed=bool(result.wanted.asking),
        wrong=[_worst(case, reports, result.rule) for case in result.wrong],
        astray=[_worst(case, reports, "") for case in result.astray],
    )


def _notes(result: Result) -> Iterator[str]:
    found = result.found
    missing = result.about.items - result.answered - found.errors
    if missing > 0:
        yield f"{wording.count(missing, 'item')} of the run are not there yet"
    if asking := result.wanted.asking:
        could = f"{wording.count(found.askable, 'item')} with a word to ask about"
        of = f"all {could}" if found.asked == found.askable else f"{found.asked:,} of {could}, spread evenly over them"
        yield f"{', '.join(asking)}: the model was asked about {of}"
    if found.errors:
        yield f"{wording.count(found.errors, 'item')} have an error in place of an answer"
    if found.open:
        yield (
            f"{wording.count(found.open, 'item')} are not scored by the file: it names their image without its folder, "
            "and several images have that name"
        )
    if found.missing:
        told = wording.count(found.phrases, "phrase")
        few = "; ".join(f"“{visible(phrase)}” of {visible(id)}" for id, phrase in found.lost)
        yield f"{found.missing:,} of {told} with boxes are not in their answer, and are not scored, such as {few}"
    if found.without_rows:
        yield f"{wording.count(found.without_rows, 'phrase')} have no rows in their record, and are not scored"
    if found.bad:
        yield f"{wording.count(len(found.bad), 'record')} could not be scored"
    for id, reason in result.bad:
        yield f"{visible(id)}: {reason}"
    if found.unasked:
        yield f"the model could not be asked about {wording.count(len(found.unasked), 'item')}"
    for id, reason in result.unasked:
        yield f"{visible(id)}: {reason}"


def _tags(figures: Mapping[Key, Figure]) -> list[str]:
    return sorted({key.tag for key in figures})


def _value(figure: Figure | None) -> Value:
    if figure is None:
        return Value()
    interval = "" if figure.low is None or figure.high is None else f"{figure.low:.3f}–{figure.high:.3f}"
    return Value(f"{figure.value:.3f}", interval, f"{figure.n:,}", wording.count(figure.images, "image"))


def _map_lines(figures: Mapping[Key, Figure], metrics: Sequence[str], *, tagged: bool) -> Iterator[Line]:
    """The mean maps of all views, for each kind of word; chance last."""
    means = {key._replace(figure="") for key in figures if key.words and key.layer is key.head is None}
    chosen = [key for key in means if bool(key.tag) == tagged]
    for key in sorted(chosen, key=lambda key: (key.tag, WORDS.index(key.words), key.view == EVEN, key.view)):
        values = tuple(_value(figures.get(key._replace(figure=name))) for name in metrics)
        yield Line((key.view, key.method, key.words, key.tag), values)


def _share_lines(figures: Mapping[Key, Figure], *, tagged: bool) -> Iterator[Line]:
    """The mean image share of every view, over all items or by tag."""
    for key, figure in figures.items():
        if key.figure == IMAGE_SHARE and bool(key.tag) == tagged:
            yield Line((key.view, key.tag) if tagged else (key.view,), (_value(figure),))


def _single_lines(figures: Mapping[Key, Figure], metrics: Sequence[str]) -> Iterator[Line]:
    """Every layer that a view keeps apart."""
    layers = {key._replace(figure="") for key in figures if key.layer is not None and key.head is None}
    for key in sorted(layers, key=lambda key: (key.view, WORDS.index(key.words), key.layer)):
        values = tuple(_value(figures.get(key._replace(figure=name))) for name in metrics)
        yield Line((key.view, key.method, key.words, str(key.layer)), values)


def _plot(one: ByShare) -> Plot:
    (width, height), edge = PLOT_PX, PLOT_EDGE_PX

    def up(value: float) -> float:
        return round(edge + (height - 2 * edge) * (1 - value), 1)

    points = []
    for part in one.bins:
        figure = part.accuracy
        low, high = (figure.value if bound is None else bound for bound in (figure.low, figure.high))
        x = edge + (width - 2 * edge) * (part.low + part.high) / 2
        text = f"share {part.low:.3f} to {part.high:.3f}: {figure.value:.3f}, n {figure.n}"
        points.append(Point(round(x, 1), up(figure.value), up(low), up(high), text))
    told = ""
    if one.auroc is not None:
        value = _value(one.auroc)
        told = f"A right answer has the larger share than a wrong one for {value.text} of all pairs ({value.interval})."
    return Plot(one.view, tuple(points), told)


def _heats(figures: Mapping[Key, Figure]) -> Iterator[Heat]:
    """Heat tables of all views that keep layers and heads apart."""
    for figure in (POINTING, ENERGY):
        own = {key: one for key, one in figures.items() if key.figure == figure and None not in (key.layer, key.head)}
        for view, words in dict.fromkeys((key.view, key.words) for key in own):
            chosen = {
                (key.layer or 0, key.head or 0): one
                for key, one in own.items()
                if (key.view, key.words) == (view, words)
            }
            if 2 < len(chosen) <= _MOST_CELLS:
                yield _heat(f"{figure}, {view}, words: {words}", chosen)


def _heat(title: str, chosen: Mapping[tuple[int, int], Figure]) -> Heat:
    layers, heads = (sorted({cell[axis] for cell in chosen}) for axis in (0, 1))
    width, height = CELL_PX
    # Of the scale 0 to 1, so that tables compare.
    colours = colormap.lookup(colormap.DEFAULT_PALETTE, np.array([one.value for one in chosen.values()]))
    cells = []
    for ((layer, head), one), colour in zip(chosen.items(), colours.tolist(), strict=True):
        value = _value(one)
        light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 127
        cells.append(
            Cell(
                (heads.index(head) + 1) * width, (layers.index(layer) + 1) * height, f"#{bytes(colour).hex()}",
                "#000" if light else "#fff", f"{one.value:.2f}",
                f"layer {layer}, head {head}: {value.text} ({value.interval}), n {value.n}",
            )
        )  # fmt: skip
    return Heat(
        title,
        tuple((layer, (place + 1) * height) for place, layer in enumerate(layers)),
        tuple((head, (place + 1) * width) for place, head in enumerate(heads)),
        tuple(cells),
        (len(heads) + 1) * width,
        (len(layers) + 1) * height,
    )


def _worst(case: Case, reports: Mapping[str, str], rule: str) -> Worst:
    figures = (("pointing", case.pointing), ("energy in the box", case.energy))
    told = [", ".join(f"{name} {value:.2f}" for name, value in figures if value is not None)]
    told = [one for one in told if one]
    told.append(f"mean log p {wording.amount(case.logprob)}")
    expected = case.expected if rule else ""
    report, command = reports.get(case.id, ""), render_command(case.id)
    return Worst(visible(case.id), report, command, case.prompt, case.answer, expected, "; ".join(told))
