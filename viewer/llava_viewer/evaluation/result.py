"""An evaluation: everything that a store scores, in figures with intervals over images, as JSON and as CSV.

Flow: parts -> `evaluated` (in parallel) -> `Result` -> `as_json`, `as_csv`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from llava_eval.answers import RULES
from llava_eval.metric import needs_truth
from llava_eval.statistics import aurocs, resampled_counts
from llava_eval.tally import Figure, Tally
from llava_viewer.evaluation.asking import Asking, asked_scores
from llava_viewer.evaluation.scores import EVEN, Case, Found, Key, Wanted, part_scores
from llava_viewer.files import FIGURE_COLUMNS
from llava_viewer.store.about import About, model_of
from llava_viewer.store.many import over_parts
from llava_viewer.store.part import StoreError
from llava_viewer.store.store import Store
from llava_viewer.version import package_version

FORMAT, VERSION = "llava-gaze-evaluation", 1
_BINS, _LEAST_IN_BIN = 5, 5
_LEAST_OF_EACH = 5
"""So many right answers, and wrong ones, before it is asked whether the share tells them apart."""
_WORST, _BAD = 20, 100
Told = TypeVar("Told")
RIGHT = 0.5
"""An answer that scores less by the rule is called wrong."""


@dataclass(frozen=True)
class Bin:
    """How right the answers are whose image share lies from `low` to `high`."""

    low: float
    high: float
    accuracy: Figure


@dataclass(frozen=True)
class ByShare:
    """Whether the share of attention on the image goes with being right.

    Args:
        view: whose share.
        bins: in order, of equally many items where shares differ.
        auroc: the chance that a right answer's share is above a wrong one's; None where too few are right or wrong.
    """

    view: str
    bins: tuple[Bin, ...]
    auroc: Figure | None


@dataclass(frozen=True)
class Result:
    """All that an evaluation found.

    Args:
        about: the run; model: in words.
        wanted: how it was evaluated.
        rule: by which answers are called right where one rule must be named; "" without expected answers.
        found: counts, and what could not be read.
        figures: by what they are of, in the order in which they are told.
        by_share: for each view.
        wrong: wrong answers, those that the model was surest of first.
        astray: items whose maps are furthest from their boxes.
    """

    about: About
    model: str
    wanted: Wanted
    rule: str
    found: Found
    figures: Mapping[Key, Figure]
    by_share: tuple[ByShare, ...]
    wrong: tuple[Case, ...]
    astray: tuple[Case, ...]

    @property
    def bad(self) -> Sequence[tuple[str, str]]:
        """The first records that could not be scored, with the reason."""
        return self.found.bad[:_BAD]

    @property
    def unasked(self) -> Sequence[tuple[str, str]]:
        """The first items that the model could not be asked about, with the reason."""
        return self.found.unasked[:_BAD]

    @property
    def answered(self) -> int:
        """Items with a record, those that could not be scored included."""
        return len(self.found.cases) + len(self.found.bad)


def evaluated(
    wanted: Wanted,
    rule: str = "",
    told: Callable[[int, int], None] = lambda done, all: None,
    asking: Asking | None = None,
) -> Result:
    """Evaluates a store.

    Args:
        wanted: the store and how.
        rule: by which answers are called right; "" for the run's, else "exact".
        told: gets how many parts are done, of how many.
        asking: the model, where metrics ask it.

    Raises:
        StoreError: it is no store, it has no part yet, or nothing is known of any of its items.
    """
    with Store(wanted.store) as store:
        about, parts = store.about, store.parts
        if wanted.truth.by_name:
            wanted = replace(wanted, truth=wanted.truth.among(row["image"] for row in store.rows()))
    found = Found()
    for one in over_parts(parts, partial(part_scores, wanted), told):
        found.join(one)
    if not found.cases:
        with Store(wanted.store) as store:
            store.check_answered()
        first = f" ({found.bad[0][0]}: {found.bad[0][1]})" if found.bad else ""
        raise StoreError(f"{wanted.store}: got no answered item that can be scored{first}, expected some; correct them")
    by_itself = asking is not None and not all(map(needs_truth, wanted.asking))
    if not (found.known or by_itself) or (wanted.truth.by_name and not found.named):
        what = "the file names none of its items by id or image" if wanted.truth.by_name else "its data has none"
        raise StoreError(
            f"{wanted.store}: got neither boxes nor expected answers of its items ({what}), expected some; name a file "
            "that knows them (--truth)"
        )
    if wanted.asking and asking is not None:
        found.join(asked_scores(wanted, asking))
    rule = rule or about.rule or RULES[0]
    judged = any(case.right for case in found.cases)
    return Result(
        about,
        model_of(wanted.store),
        wanted,
        rule if judged else "",
        found,
        in_order(found.tally.figures(), wanted),
        tuple(_by_share(found.cases, rule)) if judged else (),
        tuple(_wrong(found.cases, rule)),
        tuple(_astray(found.cases)),
    )


def as_json(result: Result, **more: Any) -> bytes:
    """The result for programs.

    Args:
        more: further entries.
    """
    found, about = result.found, result.about
    plain: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "made_by": f"llava-gaze {package_version()}",
        "run": {"data": str(about.data), "digest": about.digest, "options": about.options, "model": result.model},
        "asked": {"metrics": list(result.wanted.metrics), "blur": result.wanted.blur, "rule": result.rule},
        "items": {
            "in_the_run": about.items, "answered": result.answered, "with_an_error": found.errors,
            "known": found.known, "named_by_the_file": found.named, "not_scored": len(found.bad),
            "asked_about": found.asked, "could_be_asked_about": found.askable,
            "not_asked_about": len(found.unasked),
        },
        "phrases": {
            "with_boxes": found.phrases, "not_in_the_answer": found.missing, "without_rows": found.without_rows,
        },
        "interval": "95 %, bootstrap over images",
        "figures": [key._asdict() | asdict(figure) for key, figure in result.figures.items()],
        "accuracy_by_image_share": [asdict(one) for one in result.by_share],
        "wrong": [case._asdict() for case in result.wrong],
        "astray": [case._asdict() for case in result.astray],
        "bad": [{"id": id, "reason": reason} for id, reason in result.bad],
        "unasked": [{"id": id, "reason": reason} for id, reason in result.unasked],
        **more,
    }  # fmt: skip
    return (json.dumps(plain, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "surrogatepass")


def as_csv(result: Result) -> bytes:
    """The figures as a table."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(FIGURE_COLUMNS)
    for key, figure in result.figures.items():
        bounds = (None if bound is None else f"{bound:.6g}" for bound in (figure.low, figure.high))
        writer.writerow([*key, f"{figure.value:.6g}", *bounds, figure.n, figure.images])
    return stream.getvalue().encode("utf-8", "surrogatepass")


def in_order(figures: Mapping[Key, Told], wanted: Wanted) -> dict[Key, Told]:
    """What is told of figures, in the order in which they are told."""
    return dict(sorted(figures.items(), key=lambda one: _place(one[0], wanted)))


def _place(key: Key, wanted: Wanted) -> tuple[Any, ...]:
    """Where a figure stands: rules of answers, shares, metrics; all items before tags, means before single maps."""
    figures = (*RULES, "image_share", *wanted.metrics)
    single = (key.layer is not None or key.head is not None, -1 if key.layer is None else key.layer)
    view = (key.view == EVEN, key.view)  # chance comes last
    return (figures.index(key.figure), view, single, -1 if key.head is None else key.head, key.words, key.tag)


def _by_share(cases: Sequence[Case], rule: str) -> list[ByShare]:
    found = []
    for view in dict.fromkeys(view for case in cases for view in case.shares):
        own = [case for case in cases if case.right and view in case.shares]
        if len(own) < 2 * _LEAST_IN_BIN:
            continue
        shares = np.array([case.shares[view] for case in own])
        right = np.array([case.right[rule] for case in own])
        bins = min(_BINS, len(own) // _LEAST_IN_BIN)
        # By whole numbers: .6 of 60 shares are 36, which a quantile of .6000000000000001 rounds up to 37.
        last = [-(-len(own) * number // bins) - 1 for number in range(1, bins + 1)]
        highest = np.unique(np.sort(shares)[last])
        places = np.searchsorted(highest, shares)
        tally: Tally[int] = Tally()
        for case, place, value in zip(own, places.tolist(), right.tolist(), strict=True):
            tally.add(place, case.image, value)
        figures = tally.figures()
        ranges = {place: shares[places == place] for place in sorted(figures)}
        told = (Bin(float(own.min()), float(own.max()), figures[place]) for place, own in ranges.items())
        found.append(ByShare(view, tuple(told), _auroc(own, shares, right >= 0.5)))
    return found


def _auroc(cases: Sequence[Case], shares: np.ndarray, right: np.ndarray) -> Figure | None:
    """How well the share tells right answers from wrong ones."""
    if min(right.sum(), (~right).sum()) < _LEAST_OF_EACH:
        return None
    images = [case.image for case in cases]
    value = float(aurocs(shares, right, np.ones((1, len(shares))))[0])
    counts = resampled_counts(images, 1000 if len(images) <= 10_000 else 100)
    low = high = None
    if counts is not None:
        counts = counts[(counts[:, right].sum(1) > 0) & (counts[:, ~right].sum(1) > 0)]
        low, high = map(float, np.percentile(aurocs(shares, right, counts), (2.5, 97.5)))
    return Figure(value, low, high, len(images), len(set(images)))


def _wrong(cases: Sequence[Case], rule: str) -> list[Case]:
    """Wrong answers, the surest first: those are the ones to look at."""
    wrong = [case for case in cases if case.right and case.right[rule] < RIGHT]
    return sorted(wrong, key=lambda case: -case.logprob)[:_WORST]


def _astray(cases: Sequence[Case]) -> list[Case]:
    """The items whose first view points beside its boxes, the least energy in them first."""
    boxed = [case for case in cases if case.pointing is not None and case.pointing < 1]
    return sorted(boxed, key=lambda case: (case.pointing, case.energy or 0.0))[:_WORST]
