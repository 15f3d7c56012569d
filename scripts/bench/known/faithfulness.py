"""Measures which metrics that ask the model rank methods as the boxes do, on scenes whose boxes are known.

Flow: held-out scenes -> processes with an engine each -> maps of every method of two words a scene, and the model's own
word for sets of patches -> `bench.known.faith` -> docs/benchmarks/faithfulness.json and a table of docs/methods.md.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench.known.asked import JUDGED_KINDS, MODEL, SEED, numbered, png
from bench.known.ending import concluded
from bench.known.faith import (
    BASELINES,
    CONTROL,
    TRUE_BOX,
    Remembering,
    agreement,
    better,
    further_maps,
    judge,
    keys,
    place,
)
from bench.known.page import PAGE, faith_replaced, faith_table
from bench.known.scores import AGAIN, words_of
from bench.known.views import RANDOM_HEAD, Served, View, judged, named, random_head
from bench.parts.results import FOLDER, Figure, Result, machine, write
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record
from servekit.cli import parser, run, say
from servekit.paths import MODEL_STORE, SetupError
from shapes.pointing import Judged
from shapes.sightings import Item

SCENES, ORDERS, STEPS = 24, 4, 8
"""How many scenes; random orders of the controls; steps of the curves over all patches."""
FILE, TITLE = "faithfulness.json", "Which metrics rank methods as the boxes do"
BASE = "contributions"
"""The method whose map is also shown wrong."""
_DESCRIBED = ("colour", "shape")
Scores = dict[str, dict[str, float]]


def asked_of(scene: int, items: Sequence[Item]) -> list[Item]:
    """The description of a scene, and one of its other questions, in turn, whose answers have words about an object."""
    described = [item for item in items if item.question.kind == JUDGED_KINDS[0]]
    others = [item for item in items if item.question.kind in JUDGED_KINDS[1:]]
    return described + others[scene % max(len(others), 1) :][:1]


def chosen(words: Iterable[Judged], scene: int, objects: int) -> list[Judged]:
    """The word that is asked about: of a description the colour or shape of one object, in turn; none that stands in
    the question."""
    group, index = _DESCRIBED[scene % 2], scene // 2 % objects
    return [
        word for word in words
        if word.group != AGAIN and (word.group not in _DESCRIBED or (word.group, word.index) == (group, index))
    ][:1]  # fmt: skip


def measure(orders: int, numbered_items: tuple[int, Sequence[Item]]) -> tuple[int, Scores]:
    """How many words of a scene were judged, and the sums of their scores, by map and metric.

    Args:
        orders: random orders or sets of the controls.
        numbered_items: the scene's number and all its questions.
    """
    scene, items = numbered_items
    engine, chance, numbers = loaded(), random.Random(SEED + scene), np.random.default_rng(SEED + scene)
    parameters = {"orders": orders, "sets": orders, "steps": STEPS}
    count, sums = 0, Scores()
    for item in asked_of(scene, items):
        head = random_head(Served.of(MODEL).facts, chance)
        record, picture = answered(engine, item), png(item)
        for word in chosen(words_of(item, record), scene, len(item.scene.objects)):
            box, grid = item.scene.objects[word.index].box, record.geometry.patch_rects()
            maps = maps_of(engine, record, word.step, picture, {**judged(), RANDOM_HEAD: head})
            maps |= further_maps(maps[BASE], grid, box, numbers)
            scorers = [Remembering(engine.scorer(record, word.step, picture, baseline=one)) for one in BASELINES]
            count += 1
            for name, found in judge(maps, grid, box, scorers, parameters).items():
                known = sums.setdefault(name, dict.fromkeys(found, 0.0))
                sums[name] = {key: round(known[key] + value, 5) for key, value in found.items()}
    return count, sums


def measure_all(count: int, orders: int, jobs: int) -> Iterator[dict[str, Any]]:
    """The sums per scene of so many scenes, in processes of one thread each: after each scene those so far.

    Scenes without a judged word are left out.
    """
    by_scene = itertools.groupby(numbered(count), key=lambda one: one[0])
    scenes = [(scene, [item for _, item in group]) for scene, group in by_scene]
    raw: dict[str, Any] = {"words": []}
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as workers:
        for words, sums in workers.map(partial(measure, orders), scenes):
            if words:
                raw["words"].append(words)
                for name, found in sums.items():
                    for key, value in found.items():
                        raw.setdefault(name, {}).setdefault(key, []).append(value)
            yield raw


@cache
def loaded() -> Engine:
    """The engine of this process, on one thread."""
    engine = Engine.load(MODEL_STORE / MODEL, device="cpu", dtype="float32")
    torch.set_num_threads(1)  # loading follows the model's own settings
    return engine


def answered(engine: Engine, item: Item) -> Record:
    """The record of one question, with the cheapest view there is."""
    options = {"views": [{"name": "any", "method": "attention"}], "check": []}
    return ran(engine, GenerateRequest.build(png(item), item.question.text, options))


def maps_of(
    engine: Engine, record: Record, step: int, picture: bytes, views: Mapping[str, View]
) -> dict[str, npt.NDArray[Any]]:
    """The maps [row, col] of one word by every view, from a replay."""
    options = {"views": named(views), "steps": [step], "precision": "float32", "check": []}
    again = ran(engine, GenerateRequest.replay(record, options, picture))
    return {name: again.map(step, view=name) for name in views}


def ran(engine: Engine, request: GenerateRequest) -> Record:
    """The record of one request.

    Raises:
        SetupError: it was refused.
    """
    [record] = engine.run([request])
    if not isinstance(record, Record):
        raise SetupError(f"request: got {record}, expected an answer; see its message")
    return record


def ranked(raw: Mapping[str, Any]) -> list[str]:
    """The maps that metrics rank, right and wrong ones: those of every view, of a random head, and of `WRONG`."""
    return [name for name in raw if name not in ("words", TRUE_BOX, CONTROL)]


def figures(raw: Mapping[str, Any]) -> list[Figure]:
    """Spearman of every metric on every baseline, the best first; then how much better than chance the true box is."""
    names = ranked(raw)
    rows = []
    for key in keys():
        note = f"the true box is number {place(raw, names, key)} of {len(names) + 1}"
        rows.append(Figure.of(key, agreement(raw, names, key), "Spearman with pointing", note=note))
    rows.sort(key=lambda row: -row.value)
    above = [
        Figure.of(f"{key}: the true box better than random", better(raw, TRUE_BOX, key), "of p", at_least=0)
        for key in keys()
    ]
    return [*rows, *above]


def result_of(raw: Mapping[str, Any], settings: Mapping[str, Any]) -> Result:
    """The measurement as a results file has it."""
    what = (
        f"{MODEL} in this process, {sum(raw['words'])} words about one object in answers about {len(raw['words'])} "
        f"held-out scenes (seed {SEED}), {len(ranked(raw))} ways to make their maps, right and wrong ones: do metrics "
        "that ask the model rank these as the pointing game does? Intervals are over scenes."
    )
    return Result(TITLE, what, machine(), settings, figures(raw), raw)


def main() -> int:
    """Exit 0 when measured; 1 when a target was missed, all the same written."""
    asked = parser(
        "Measure which metrics that ask the model rank methods as the boxes do.",
        "python -m bench.known.faithfulness\n  python -m bench.known.faithfulness --scenes 3 --out out/faith.json",
    )
    asked.add_argument("--scenes", type=int, default=SCENES, help="how many (default: %(default)d)")
    asked.add_argument("--orders", type=int, default=ORDERS, help="random orders a word (default: %(default)d)")
    asked.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: all cores)")
    asked.add_argument("--out", type=Path, default=FOLDER / FILE, help="results file (%(default)s)")
    asked.add_argument("--table", action="store_true", help="only write the table anew, from the results")
    given = asked.parse_args()
    torch.set_num_threads(1)
    begin, settings = time.monotonic(), {"seed": SEED, "orders": given.orders, "steps": STEPS}
    for scene, raw in enumerate(() if given.table else measure_all(given.scenes, given.orders, given.jobs), 1):
        say(f"{scene} of {given.scenes} scenes, {sum(raw['words'])} words, {time.monotonic() - begin:.0f} s")
        if len(raw["words"]) > 1:  # one scene has no interval
            write(given.out, result_of(raw, {"scenes": scene, **settings}))
    return concluded(given.out, faith_table, PAGE, faith_replaced)


if __name__ == "__main__":
    run(main)
