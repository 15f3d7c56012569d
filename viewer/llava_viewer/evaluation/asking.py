"""What metrics score that ask the model: some records of a store, their maps followed patch by patch.

Flow: rows spread over the store -> records -> phrases with boxes, or words that need the image where none are known ->
each view's mean map over all patches -> metrics, which ask about sets of patches -> `Found`; random orders: `EVEN`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llava_eval.metric import MetricError, evaluate, needs_truth
from llava_viewer.client.replays.scoring import Replay, SetScores
from llava_viewer.data.items import Boxes
from llava_viewer.evaluation.scores import EVEN, Found, Key, Wanted
from llava_viewer.evaluation.truth import boxes_of, check_inside
from llava_viewer.heads.words import PHRASE, Spot, answer_spots, own_places
from llava_viewer.runs.asking import of_run
from llava_viewer.store.part import Row, StoreError
from llava_viewer.store.store import Store
from llava_wire.choose import choose_patches
from llava_wire.errors import RecordError, RequestError
from llava_wire.findings.sets import MAX_SET_STEPS
from llava_wire.record import Record

ITEMS = 50
"""So many items are asked about where nobody says."""


@dataclass(frozen=True)
class Asking:
    """The model that answered, and how much of its time may be taken.

    Args:
        replay: asks it for a record's answer again.
        items: at most so many are asked about, spread evenly over the store.
        told: gets how many are done, of how many.
    """

    replay: Replay
    items: int = ITEMS
    told: Callable[[int, int], None] = lambda done, all: None


def asked_scores(wanted: Wanted, asking: Asking) -> Found:
    """What the metrics say that ask the model.

    Args:
        wanted: the store and how it is evaluated.
        asking: the model.

    Raises:
        RequestError: the model cannot be asked at all.
        StoreError: no item has a word that could be scored.
    """
    found, reason = Found(), ""
    with Store(wanted.store) as store:
        ids = [row["id"] for row in store.rows() if row["error"] is None and _can_be(row, wanted)]
        found.askable = len(ids)
        places = np.unique(np.linspace(0, len(ids) - 1, min(asking.items, len(ids))).round().astype(int))
        for done, id in enumerate([ids[place] for place in places], 1):
            row = store.row(id)
            try:
                _item(row, store.record_of(row), wanted, asking.replay, found)
            except (RecordError, MetricError, RequestError, ValueError) as error:
                if of_run(error):
                    raise
                reason = reason or f" ({id}: {error!s:.300})"
                found.unasked.append((id, f"{error!s:.300}"))
            asking.told(done, len(places))
    if not found.asked:
        raise StoreError(
            f"{wanted.store}: got no word that {', '.join(wanted.asking)} could be asked about{reason}, expected some; "
            "give boxes of phrases in the answers (--truth), or leave these metrics out"
        )
    return found


def _can_be(row: Row, wanted: Wanted) -> bool:
    """Whether an item has words to ask about, as far as its row tells."""
    boxes = wanted.truth.of(row).boxes
    if boxes:
        return bool(own_places(row["texts"], boxes))
    return bool(row["texts"]) and not all(map(needs_truth, wanted.asking))


def _item(row: Row, record: Record, wanted: Wanted, replay: Replay, found: Found) -> None:
    """The scores of one record's mean maps."""
    if not record.pictures:
        raise ValueError(f"image: got none at {row['image']!r}, expected the file that was asked about")
    boxes = wanted.truth.of(row).boxes
    if boxes:
        check_inside(record, boxes)
    spots = _spots(record, boxes)
    if not spots:
        return
    maps = {spot: _maps(record, spot) for spot in spots}
    if not any(maps.values()):
        raise ValueError("views: got none with a map for every word, expected one; run with another --reduction")
    scores = SetScores(replay, record, [step for spot in spots for step in spot.rows])
    rects = np.concatenate([record.geometry_of(n).patch_rects().reshape(-1, 4) for n in range(len(record.grids))])
    made: dict[Key, list[float]] = {}
    for spot in spots:
        truth = np.array(spot.boxes or [_everything(record)])
        scorer = scores.of(spot.rows)
        for name in wanted.asking:
            if not spot.boxes and needs_truth(name):
                continue
            control: float | None = None
            for view, (method, values) in maps[spot].items():
                score = evaluate(name, values, rects, truth, scorer)
                made.setdefault(Key(name, view, method, words=spot.kinds[0]), []).append(score.value)
                control = score.control  # of the same random orders for every view
            if control is not None:
                made.setdefault(Key(name, EVEN, words=spot.kinds[0]), []).append(control)
    found.asked += 1
    for key, numbers in made.items():
        for tag in ("", *dict.fromkeys(row["tags"] or ())):
            found.tally.add(key._replace(tag=tag), row["image"], sum(numbers), len(numbers), item=row["id"])


def _spots(record: Record, boxes: Boxes) -> Sequence[Spot]:
    """Phrases with boxes that the answer holds; where no boxes are known, its words that need the image. No more tokens
    than one check takes."""
    told = answer_spots(record, boxes_of(boxes), {}, every=bool(boxes))
    held = {query.token for query in record.queries if query.kind == "answer"}
    chosen, tokens = list[Spot](), set[int]()
    for spot in told.spots:
        if boxes and PHRASE not in spot.kinds:
            continue
        if held >= {*spot.rows} and len(tokens | {*spot.rows}) <= MAX_SET_STEPS:
            tokens |= {*spot.rows}
            chosen.append(spot)
    return chosen


def _maps(record: Record, spot: Spot) -> Mapping[str, tuple[str, np.ndarray]]:
    """View -> its method and its mean map [patch] over a word's rows, of views with maps for every word."""
    rows = [place for place, one in enumerate(record.queries) if one.kind == "answer" and one.token in spot.rows]
    return {
        view.name: (view.facts.method.name, choose_patches(view)[rows].mean(0, dtype=np.float64))
        for view in record.views.values()
        if "query" in view.axes
    }


def _everything(record: Record) -> tuple[int, int, int, int]:
    """A box for metrics that look at none."""
    image = record.facts.images[0]
    return 0, 0, image.width_px, image.height_px
