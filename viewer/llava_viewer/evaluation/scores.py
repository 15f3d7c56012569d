"""What one part of a store scores: answers against the expected ones, maps against boxes.

Flow: rows -> rules of answers; records -> words that name something with boxes, and whole answers -> maps of every
view, means and each layer and head that it keeps apart -> metrics -> a `Tally` by `Key`, and a `Case` for every item.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from llava_eval.answers import RULES, score
from llava_eval.metric import METRICS as METRIC_DOOR
from llava_eval.metric import Metric, MetricError, metric, scores_of
from llava_eval.tally import Tally
from llava_viewer.composite import NAME as COMPOSITE
from llava_viewer.data.items import Boxes
from llava_viewer.evaluation.truth import Truth, boxes_of, check_inside
from llava_viewer.heads.words import FIRST, LAST, PHRASE, WORD, Spot, answer_spots
from llava_viewer.one_grid import on_one_grid
from llava_viewer.store.part import Row, read_rows
from llava_viewer.store.store import Store
from llava_wire.choose import kept_cells, ordinary_rows, split_view
from llava_wire.errors import RecordError
from llava_wire.record import Record
from llava_wire.view import View

ANSWER = "answer"
"""The words of an answer as a whole, where boxes are known of one phrase alone."""
WORDS = (PHRASE, FIRST, LAST, ANSWER, WORD)
POINTING, ENERGY = "pointing_game", "energy_in_box"
METRICS = (POINTING, ENERGY, "enrichment", "box_iou", "box_accuracy")
FEW = 3
"""Examples of what is not scored."""
EVEN = "even map"
"""The view of what a flat map scores: chance."""
BLURRED = ("box_iou", "box_accuracy")
_FINE_GRID = 16
"""From so many rows and columns on the box rule blurs as in its paper (1 patch on 24 x 24)."""


class Key(NamedTuple):
    """What a figure is of; what does not matter to it is empty.

    Args:
        figure: a rule of answers, `IMAGE_SHARE` or a metric.
        view, method: of the maps; layer, head: of one map alone, None for the mean over all that the view keeps.
        words: whose rows; tag: of the items.
    """

    figure: str
    view: str = ""
    method: str = ""
    layer: int | None = None
    head: int | None = None
    words: str = ""
    tag: str = ""


IMAGE_SHARE = "image_share"
Scores = dict[Key, list[tuple[str, float]]]
"""Of one record: what is named, by its boxes, and its score."""


class Case(NamedTuple):
    """One answered item.

    Args:
        id, image, prompt, answer: the item's; expected: the first text that is right, "" where none is known.
        right: by rule, 0 to 1; empty where nothing is expected.
        logprob: the mean over its tokens, nats.
        shares: by view, of the image.
        pointing, energy: of the first view, means over phrases; None without boxes.
    """

    id: str
    image: str
    prompt: str
    answer: str
    expected: str
    right: Mapping[str, float]
    logprob: float
    shares: Mapping[str, float]
    pointing: float | None
    energy: float | None


@dataclass(frozen=True)
class Wanted:
    """How a store is evaluated.

    Args:
        store: its folder.
        truth: what is known.
        metrics: names of metrics.
        blur: of the box rule, patches; None: 1 from grids of 16 x 16 on, else 0.
    """

    store: Path
    truth: Truth = field(default_factory=Truth)
    metrics: Sequence[str] = METRICS
    blur: float | None = None

    @property
    def asking(self) -> tuple[str, ...]:
        """Those of the metrics that ask the model."""
        return tuple(name for name in self.metrics if METRIC_DOOR.find(name, "--metric").traits.get("needs_model"))

    def chosen(self, grid: tuple[int, ...]) -> dict[str, Metric]:
        """The metrics that ask no model, for maps of a grid of so many rows and columns."""
        blur = self.blur if self.blur is not None else float(min(grid) >= _FINE_GRID)
        own = [name for name in self.metrics if name not in self.asking]
        return {name: metric(name, {"blur": blur} if name in BLURRED else None) for name in own}


@dataclass
class Found:
    """What there is to say of some items.

    Args:
        tally: scores by what they are of.
        cases: the answered items.
        errors: items with an error; bad: ids of records that cannot be scored, with the reason; unasked: of those that
            the model could not be asked about.
        known: items that the truth says something of; named: those that a file of truth names.
        phrases, missing: phrases with boxes, and those of them that their answer does not hold.
        without_rows: phrases in the answer whose rows the record does not hold.
        asked: items that the model was asked about; askable: those that it could have been.
        open: items whose image's name alone the file has, and other images of the store have it too.
        lost: a few of the phrases that are missing, each with its item.
    """

    tally: Tally[Key] = field(default_factory=Tally)
    cases: list[Case] = field(default_factory=list)
    errors: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    unasked: list[tuple[str, str]] = field(default_factory=list)
    known: int = 0
    named: int = 0
    phrases: int = 0
    missing: int = 0
    without_rows: int = 0
    asked: int = 0
    askable: int = 0
    open: int = 0
    lost: list[tuple[str, str]] = field(default_factory=list)

    def join(self, other: Found) -> None:
        """Adds what there is to say of others."""
        self.tally.join(other.tally)
        self.lost = (self.lost + other.lost)[:FEW]
        counts = ("errors", "known", "named", "phrases", "missing", "without_rows", "asked", "askable", "open")
        for name in ("cases", "bad", "unasked", *counts):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def part_scores(wanted: Wanted, part: Path) -> Found:
    """What the items of one part score."""
    found, chosen = Found(), _Metrics(wanted)
    with Store(wanted.store) as store:
        for row in read_rows(part):
            if row["error"] is not None:
                found.errors += 1
                continue
            try:
                _item(row, store, wanted.truth, chosen, found)
            except (RecordError, MetricError, ValueError) as error:
                found.bad.append((row["id"], f"{error!s:.300}"))
    return found


class _Metrics:
    """The metrics by the size of the grid, made once for each."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._made: dict[tuple[int, ...], dict[str, Metric]] = {}

    def of(self, grid: tuple[int, ...]) -> dict[str, Metric]:
        """Those for a grid of so many rows and columns."""
        if grid not in self._made:
            self._made[grid] = self._wanted.chosen(grid)
        return self._made[grid]


def _item(row: Row, store: Store, truth: Truth, metrics: _Metrics, found: Found) -> None:
    known, tags = truth.of(row), ("", *dict.fromkeys(row["tags"] or ()))
    found.known += bool(known.boxes or known.expected)
    found.named += truth.found(row) is not None
    found.open += truth.is_open(row)
    scores = _boxed(row, store.record_of(row, picture=False), known.boxes, metrics, found) if known.boxes else {}
    right = {rule: score(rule, row["answer"], known.expected) for rule in RULES} if known.expected else {}
    shares = row["shares"] or {}
    for tag in tags:
        for rule, value in right.items():
            found.tally.add(Key(rule, tag=tag), row["image"], value, item=row["id"])
        for view, share in shares.items():
            found.tally.add(Key(IMAGE_SHARE, view, tag=tag), row["image"], share, item=row["id"])
        for key, things in scores.items():
            if not tag or key.layer is key.head is None:
                for (
                    thing,
                    value,
                ) in things:  # answers name others: two runs are held against each other by what both name
                    found.tally.add(key._replace(tag=tag), row["image"], value, item=f"{row['id']}\n{thing}")
    first = next((key.view for key in scores if key.view != EVEN), "")
    found.cases.append(
        Case(
            row["id"], row["image"], row["prompt"], row["answer"], known.expected[0] if known.expected else "", right,
            float(np.mean(row["logprobs"])) if row["logprobs"] else 0.0, shares,
            _of_view(scores, POINTING, first), _of_view(scores, ENERGY, first),
        )
    )  # fmt: skip


def _of_view(scores: Scores, figure: str, view: str) -> float | None:
    """The mean over phrases of a view's mean map; over the answer where no phrase stands in it."""
    for words in (PHRASE, ANSWER):
        for key, things in scores.items():
            if (key.figure, key.view, key.layer, key.head, key.words) == (figure, view, None, None, words):
                return sum(value for _, value in things) / len(things)
    return None


def _boxed(row: Row, record: Record, boxes: Boxes, metrics: _Metrics, found: Found) -> Scores:
    """The scores of one record's maps."""
    spots = _spots(row["id"], record, boxes, found)
    check_inside(record, boxes)
    if len(record.grids) > 1:
        record = on_one_grid(record, COMPOSITE)
    rects = record.geometry.patch_rects()
    chosen, even = metrics.of(rects.shape[:2]), np.ones((1, *rects.shape[:2]))
    scores: Scores = {}
    for spot in spots:
        for name, values in scores_of(chosen, even, rects, np.array(spot.boxes)).items():
            _keep(scores, Key(name, EVEN, words=spot.kinds[0]), spot, values[0])
        for view in record.views.values():
            cells, maps = _maps(record, view, spot)
            if cells:
                for name, values in scores_of(chosen, maps, rects, np.array(spot.boxes)).items():
                    for cell, value in zip(cells, values, strict=True):
                        _keep(scores, Key(name, view.name, view.facts.method.name, *cell, spot.kinds[0]), spot, value)
    return scores


def _keep(scores: Scores, key: Key, spot: Spot, value: float) -> None:
    if not math.isnan(value):
        scores.setdefault(key, []).append((repr(spot.boxes), float(value)))


def _spots(id: str, record: Record, boxes: Boxes, found: Found) -> list[Spot]:
    """The words whose boxes are known and whose rows the record holds."""
    as_tuples = boxes_of(boxes)
    told = answer_spots(record, as_tuples, {}, every=True)
    found.phrases += len(boxes)
    found.missing += len(told.missing)
    found.lost = [*found.lost, *((id, phrase) for phrase in told.missing)][:FEW]
    held = {query.token for query in record.queries if query.kind == "answer"}
    boxed = [spot for spot in told.spots if spot.boxes]
    spots = [spot for spot in boxed if held >= set(spot.rows)]
    found.without_rows += sum(spot.kinds == (PHRASE,) for spot in boxed) - sum(
        spot.kinds == (PHRASE,) for spot in spots
    )
    if len(boxes) == 1 and held:
        spots.append(Spot("", (ANSWER,), (), next(iter(as_tuples.values()))))
    return spots


def _maps(record: Record, view: View, spot: Spot) -> tuple[list[tuple[int | None, int | None]], np.ndarray]:
    """(layer, head) of each map, and the maps [map, row, col] of a word's rows: the mean over all that the view keeps
    apart, over the heads of each layer, and every one of them. None where the view has no rows of the word."""
    if "query" not in view.axes and spot.kinds != (ANSWER,):
        return [], np.empty(0)
    maps, _ = split_view(view)
    if "query" in view.axes:
        queries = record.queries
        rows = [place for place, one in enumerate(queries) if one.kind == "answer" and one.token in spot.rows]
        ordinary = [place for place in ordinary_rows(queries, record.tokens) if queries[place].kind == "answer"]
        maps = maps[ordinary if spot.kinds == (ANSWER,) else rows]
    slots = maps.mean(0, dtype=np.float64)  # [slot, row, col]
    own = kept_cells(view)
    if not len(slots):
        return [], np.empty(0)
    cells: list[tuple[int | None, int | None]] = [(None, None)]
    made = [slots.mean(0)]
    if len(own) > 1:
        for layer in sorted({layer for layer, head in own if layer is not None and head is not None}):
            of = [place for place, cell in enumerate(own) if cell[0] == layer]
            cells.append((layer, None))
            made.append(slots[of].mean(0))
        cells += own
        made += list(slots)
    return cells, np.stack(made)
