"""Two runs over the same images held against each other: every figure that both have, and the answers that changed.

Flow: the `Result`s of two runs by the same truth and rule -> `held_against` -> `Against` -> JSON, CSV.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from llava_eval.tally import Difference
from llava_viewer.evaluation.result import RIGHT, Result, in_order
from llava_viewer.evaluation.scores import EVEN, Case, Key
from llava_viewer.files import DIFFERENCE_COLUMNS
from llava_viewer.store.part import StoreError
from llava_viewer.store.store import Store

_CHANGED = 20
_LOOKED_AT = 64
"""Images whose digests are compared, spread evenly: the same names do not make them the same."""


class Changed(NamedTuple):
    """An item that one run answers rightly and the other one does not."""

    id: str
    prompt: str
    expected: str
    answer: str
    other: str


@dataclass(frozen=True)
class Against:
    """What two runs differ in.

    Args:
        result, other: theirs; differences are the first one's less the other's.
        differing: what tells the runs themselves apart, in words: model, options.
        images: that both have; items: of the same id and image.
        both_right, only_here, only_there, neither: of those items, by the first run's rule; all 0 without one.
        differences: by what they are of.
        better, worse: items that are right here alone, and there alone; the first of each.
    """

    result: Result
    other: Result
    differing: Sequence[str]
    images: int
    items: int
    both_right: int
    only_here: int
    only_there: int
    neither: int
    differences: Mapping[Key, Difference]
    better: Sequence[Changed]
    worse: Sequence[Changed]

    @property
    def name(self) -> str:
        """What the other run is called."""
        return str(self.other.wanted.store)


def held_against(result: Result, other: Result) -> Against:
    """Holds a run against another one.

    Args:
        result, other: of both stores, evaluated by the same truth, metrics and rule.

    Raises:
        StoreError: they have no image in common, or others under the same names.
    """
    images = {case.image for case in other.found.cases}
    shared = [case for case in result.found.cases if case.image in images]
    if not shared:
        example = f"{result.found.cases[0].image} here, {other.found.cases[0].image} there"
        raise StoreError(
            f"--against: got {other.wanted.store}, which has no image of this run ({example}), expected a run over the "
            "same images; name it"
        )
    _check_same(result, other, shared)
    theirs = {(case.id, case.image): case for case in other.found.cases}
    pairs = [(case, theirs[case.id, case.image]) for case in shared if (case.id, case.image) in theirs]
    judged = [
        (one, two, one.right[result.rule] >= RIGHT, two.right[result.rule] >= RIGHT)
        for one, two in pairs
        if one.right and two.right
    ]
    better = [_changed(one, two) for one, two, here, there in judged if here and not there]
    worse = [_changed(one, two) for one, two, here, there in judged if there and not here]
    differences = result.found.tally.against(other.found.tally)
    return Against(
        result=result,
        other=other,
        differing=_differing(result, other, pairs),
        images=len({case.image for case in shared}),
        items=len(pairs),
        both_right=sum(here and there for _, _, here, there in judged),
        only_here=len(better),
        only_there=len(worse),
        neither=sum(not here and not there for _, _, here, there in judged),
        differences=in_order({key: one for key, one in differences.items() if key.view != EVEN}, result.wanted),
        better=better[:_CHANGED],
        worse=worse[:_CHANGED],
    )


def against_json(against: Against) -> dict[str, Any]:
    """The comparison for programs."""
    about = against.other.about
    return {
        "run": {
            "store": against.name, "data": str(about.data), "digest": about.digest, "options": about.options,
            "model": against.other.model,
        },
        "differing": list(against.differing),
        "images": against.images,
        "items": {
            "of_both": against.items, "both_right": against.both_right, "only_here": against.only_here,
            "only_there": against.only_there, "neither": against.neither,
        },
        "interval": "95 %, bootstrap over images, of the difference: this run less the other",
        "differences": [
            key._asdict() | asdict(one) | {"value": one.value, "told_apart": one.told_apart}
            for key, one in against.differences.items()
        ],
        "right_here_alone": [one._asdict() for one in against.better],
        "right_there_alone": [one._asdict() for one in against.worse],
    }  # fmt: skip


def against_csv(against: Against) -> bytes:
    """The differences as a table."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(DIFFERENCE_COLUMNS)
    for key, one in against.differences.items():
        values = (one.one, one.other, one.value, one.low, one.high, one.p)
        told = (None if value is None else f"{value:.6g}" for value in values)
        writer.writerow([*key, *told, one.n, one.other_n, one.images])
    return stream.getvalue().encode("utf-8", "surrogatepass")


def _check_same(result: Result, other: Result, shared: Sequence[Case]) -> None:
    """Makes sure that images of one name are the same ones, by the digests of some that are spread over the run.

    Raises:
        StoreError: they are not.
    """
    there = {case.image: case.id for case in other.found.cases}
    by_image = {case.image: case.id for case in shared}
    some = list(by_image.items())[:: -(-len(by_image) // _LOOKED_AT)]
    with Store(result.wanted.store) as one, Store(other.wanted.store) as two:
        for image, id in some:
            facts = [
                [picture.pixels_sha256 for picture in store.record_of(store.row(of), picture=False).facts.images]
                for store, of in ((one, id), (two, there[image]))
            ]
            if facts[0] != facts[1]:
                raise StoreError(
                    f"--against: got {other.wanted.store}, whose {image} is another image than this run's, expected a "
                    "run over the same images; name it"
                )


def _changed(one: Case, two: Case) -> Changed:
    return Changed(one.id, one.prompt, one.expected, one.answer, two.answer)


def _differing(result: Result, other: Result, pairs: Sequence[tuple[Case, Case]]) -> list[str]:
    """What the two runs were asked, of whom and how, where it is not the same."""
    found = [f"model: {result.model} here, {other.model} there"] if result.model != other.model else []
    if any(one.prompt != two.prompt for one, two in pairs):
        found.append("prompts")
    here, there = result.about.options, other.about.options
    found += [
        f"{key}: {_plain(here, key)} here, {_plain(there, key)} there"
        for key in sorted({*here, *there})
        if here.get(key) != there.get(key)
    ]
    return found


def _plain(options: Mapping[str, Any], key: str) -> str:
    return f"{json.dumps(options[key], ensure_ascii=False):.120}" if key in options else "not given"
