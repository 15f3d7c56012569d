"""Two runs over the same images held against each other: every figure that both have, and the answers that changed.

Flow: the `Result`s of two runs by the same truth and rule -> `held_against` -> `Against` -> JSON, CSV.
"""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from llava_eval.tally import Difference
from llava_viewer.evaluation.result import RIGHT, Result, in_order
from llava_viewer.evaluation.scores import Case, Key
from llava_viewer.evaluation.views import paired
from llava_viewer.files import DIFFERENCE_COLUMNS
from llava_viewer.store.part import StoreError
from llava_viewer.store.store import Store

_CHANGED = 20
_LOOKED_AT = 64
"""Images whose digests are compared, spread evenly: the same names do not make them the same."""


class Changed(NamedTuple):
    """An item that one run answers rightly and the other one does not; `other_...` are the other run's."""

    id: str
    prompt: str
    expected: str
    answer: str
    other_prompt: str
    other_expected: str
    other_answer: str


@dataclass(frozen=True)
class Against:
    """What two runs differ in.

    Args:
        result, other: theirs; differences are the first one's less the other's.
        differing: what tells the runs themselves apart, in words: model, options.
        aside: what the comparison leaves out, in words: items of one run alone, views that only one has.
        images: that both have; items: of the same id and image.
        both_right, only_here, only_there, neither: of those items, by the first run's rule; all 0 without one.
        differences: by what they are of.
        better, worse: items that are right here alone, and there alone; the first of each.
        one_grid: maps of an item have as many rows and columns in both runs, so that they can be compared.
    """

    result: Result
    other: Result
    differing: Sequence[str]
    aside: Sequence[str]
    images: int
    items: int
    both_right: int
    only_here: int
    only_there: int
    neither: int
    differences: Mapping[Key, Difference]
    better: Sequence[Changed]
    worse: Sequence[Changed]
    one_grid: bool

    @property
    def here(self) -> str:
        """What the run is called."""
        return str(self.result.wanted.store)

    @property
    def name(self) -> str:
        """What the other run is called."""
        return str(self.other.wanted.store)


def held_against(result: Result, other: Result, named: Mapping[str, str] | None = None) -> Against:
    """Holds a run against another one.

    Args:
        result, other: of both stores, evaluated by the same truth, metrics and rule.
        named: views of the run -> the other's that they are held against; see `paired`.

    Raises:
        StoreError: they have no image in common, or others under the same names; or a view that is named is not there.
    """
    images = {case.image for case in other.found.cases}
    shared = [case for case in result.found.cases if case.image in images]
    if not shared:
        example = f"{result.found.cases[0].image} here, {other.found.cases[0].image} there"
        raise StoreError(
            f"--against: got {other.wanted.store}, which has no image of this run ({example}), expected a run over the "
            "same images; name it"
        )
    one_grid = _same_images(result, other, shared)
    theirs = {(case.id, case.image): case for case in other.found.cases}
    pairs = [(case, theirs[case.id, case.image]) for case in shared if (case.id, case.image) in theirs]
    judged = [
        (one, two, one.right[result.rule] >= RIGHT, two.right[result.rule] >= RIGHT)
        for one, two in pairs
        if one.right and two.right
    ]
    better = [_changed(one, two) for one, two, here, there in judged if here and not there]
    worse = [_changed(one, two) for one, two, here, there in judged if there and not here]
    views = paired(result.found.tally, other.found.tally, named or {})
    alone = [f"{where} {', '.join(names)}" for names, where in ((views.here, "here"), (views.there, "there")) if names]
    return Against(
        result=result,
        other=other,
        differing=_differing(result, other, pairs),
        aside=[
            *_left_out(result, other, len(pairs)),
            *(
                [f"views that one run alone has are left out ({'; '.join(alone)}), unless --pair names them"]
                if alone
                else ()
            ),
        ],
        images=len({case.image for case in shared}),
        items=len(pairs),
        both_right=sum(here and there for _, _, here, there in judged),
        only_here=len(better),
        only_there=len(worse),
        neither=sum(not here and not there for _, _, here, there in judged),
        differences=in_order(views.one.against(views.other, whole_images=not pairs), result.wanted),
        better=better[:_CHANGED],
        worse=worse[:_CHANGED],
        one_grid=one_grid,
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
        "left_out": list(against.aside),
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


def _same_images(result: Result, other: Result, shared: Sequence[Case]) -> bool:
    """Makes sure that images of one name are the same ones, by the digests of some that are spread over the run.

    Returns:
        whether their maps have as many rows and columns in both runs.

    Raises:
        StoreError: they are not.
    """
    one_grid = True
    there = {case.image: case.id for case in other.found.cases}
    by_image = {case.image: case.id for case in shared}
    some = list(by_image.items())[:: -(-len(by_image) // _LOOKED_AT)]
    with Store(result.wanted.store) as one, Store(other.wanted.store) as two:
        for image, id in some:
            records = [store.record_of(store.row(of), picture=False) for store, of in ((one, id), (two, there[image]))]
            digests = [[picture.pixels_sha256 for picture in record.facts.images] for record in records]
            grids = [[(grid.rows, grid.cols) for grid in record.grids] for record in records]
            one_grid = one_grid and grids[0] == grids[1]
            if digests[0] != digests[1]:
                raise StoreError(
                    f"--against: got {other.wanted.store}, whose {image} is another image than this run's, expected a "
                    "run over the same images; name it"
                )
    return one_grid


def _changed(one: Case, two: Case) -> Changed:
    return Changed(one.id, one.prompt, one.expected, one.answer, two.prompt, two.expected, two.answer)


def _differing(result: Result, other: Result, pairs: Sequence[tuple[Case, Case]]) -> list[str]:
    """What the two runs were asked, of whom and how, where it is not the same."""
    found = [f"model: {result.model} here, {other.model} there"] if result.model != other.model else []
    if any(one.prompt != two.prompt for one, two in pairs):
        found.append("prompts")
    if any(one.expected != two.expected for one, two in pairs):
        found.append("expected answers")
    if _boxes(result, pairs) != _boxes(other, pairs):
        found.append("boxes")
    here, there = result.about.options, other.about.options
    found += [
        f"{key}: {_plain(here, key)} here, {_plain(there, key)} there"
        for key in sorted({*here, *there})
        if here.get(key) != there.get(key)
    ]
    return found


def _plain(options: Mapping[str, Any], key: str) -> str:
    return f"{json.dumps(options[key], ensure_ascii=False):.120}" if key in options else "not given"


def _boxes(result: Result, pairs: Sequence[tuple[Case, Case]]) -> dict[str, int]:
    """A sum of the boxes that are known of each item of both runs."""
    both = {one.id for one, _ in pairs}
    with Store(result.wanted.store) as store:
        return {
            row["id"]: zlib.crc32(json.dumps(result.wanted.truth.of(row).boxes, sort_keys=True).encode())
            for row in store.rows()
            if row["id"] in both
        }


def _left_out(result: Result, other: Result, both: int) -> list[str]:
    """Items that stand in one of the runs alone, and why as far as the runs tell."""
    found = []
    if not both:
        found.append(
            "no item has an id that both runs have: answers are not counted by who is right, and figures are of all "
            "items of an image"
        )
    for one, where in ((result, "here"), (other, "there")):
        if less := one.about.items - one.answered:
            far = f", {one.found.errors:,} have an error" if one.found.errors else ""
            found.append(f"{where} {less:,} of {one.about.items:,} items have no answer{far}")
        found += [f"{where} {len(one.found.bad):,} are not scored, such as {id}: {why:.100}" for id, why in one.bad[:1]]
        if both and (alone := len(one.found.cases) - both):
            found.append(f"{alone:,} of {len(one.found.cases):,} scored items are {where} alone")
    return found
