"""Measures whether the checks of an answer tell right from wrong, on scenes of known truth.

Flow: held-out scenes in parts, some side by side -> answers with maps and the check `image`, and again with the
objects painted over -> the check `patches` for patches of the true box, random ones, those of real maps and of wrong
ones -> docs/benchmarks/checks.json and the table of docs/checks.md.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.known.asked import MODEL, SUBJECTS, numbered
from bench.known.checks_page import PAGE, replaced, text
from bench.known.ending import concluded, results
from bench.known.separation import BOX, RANDOM, TOKENS, figures, wrong_of
from bench.known.sets import Sets, at_random, of_box, own_and_wrong
from bench.known.tested import Answers
from bench.parts.results import FOLDER, Result, machine, write
from llava_server.engine import Engine
from llava_wire.choose import ordinary_tokens
from llava_wire.findings.patches import usual_top
from servekit.cli import parser, run, say
from servekit.paths import MODEL_STORE
from teach.sightings import Item

SCENES, SEED = 200, 74_002
"""How many scenes, and which."""
TITLE, FILES = "What checks of an answer tell", {MODEL: "checks.json", "llava-things": "checks-things.json"}
MAPS: Mapping[str, Mapping[str, Any]] = {
    "contributions": {"method": "contributions"},
    "contrast": {"method": "contrast", "layers": "all", "heads": "all"},
    "attention": {"method": "attention", "layers": "all", "heads": "all"},
}
"""The real maps whose patches are tested."""
_PART = 4
"""Scenes that one process measures before it says so."""
Series = dict[str, dict[str, list[Any]]]
"""See `separation.Raw`."""


def measure(answers: Answers) -> Series:
    """What the checks say of some scenes, two or more, as `separation.Raw` has it."""
    raw = {TOKENS: _tokens(answers)}
    for kind, sets in _sets(answers, np.random.default_rng([SEED, answers.items[0][0]])):
        found = sorted(answers.ask({place: patches for place, patches in sets.patches.items() if patches}).items())
        raw[kind] = {
            "scene": [answers.words[place].scene for place, _ in found],
            "map": [sets.maps.get(place, "") for place, _ in found],
            "alone": [word.alone for _, word in found],
            "hidden": [word.hidden for _, word in found],
        }
    return raw


def measure_all(items: Sequence[tuple[int, Item[Any]]], model: str, jobs: int) -> Iterator[tuple[int, Series]]:
    """The same of all scenes, in as many processes of one thread each: after each part the scenes so far."""
    parts: dict[int, list[tuple[int, Item[Any]]]] = {}
    for scene, item in items:
        parts.setdefault(scene // _PART, []).append((scene, item))
    raw: Series = {}
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("fork")) as workers:
        for asked, found in zip(
            parts.values(), workers.map(_measured, parts.values(), itertools.repeat(model)), strict=False
        ):
            raw = {kind: _joined(raw.get(kind, {}), series) for kind, series in found.items()}
            yield asked[-1][0] + 1, raw


def asked_of(count: int, model: str = MODEL) -> list[tuple[int, Item[Any]]]:
    """A description and one other question of each scene, the kinds in turn."""
    chosen: list[tuple[int, Item[Any]]] = []
    for scene, group in itertools.groupby(numbered(count, SEED, model), key=lambda one: one[0]):
        first, *others = group
        chosen += [first, others[scene % len(others)]]
    return chosen


@functools.cache
def small_model(model: str) -> Engine:
    """The model that is tested."""
    torch.set_num_threads(1)
    return Engine.load(MODEL_STORE / model, device="cpu", dtype="float32")


def _measured(items: Sequence[tuple[int, Item[Any]]], model: str) -> Series:
    return measure(Answers(small_model(model), items, MAPS, SUBJECTS[model].truth))


def _tokens(answers: Answers) -> dict[str, list[Any]]:
    """Every ordinary token: what the check `image` says, and how far it really falls, in nats."""
    rows = [
        (scene, round(token.logprob - (token.without_image or 0.0), 3), round(float(falls[step]), 3))
        for (scene, _), record, falls in zip(answers.items, answers.records, answers.falls, strict=True)
        for step, token in enumerate(record.tokens)
        if step in ordinary_tokens(record.tokens)
    ]
    return {name: [*column] for name, column in zip(("scene", "said", "really"), zip(*rows, strict=True), strict=True)}


def _sets(answers: Answers, random: np.random.Generator) -> Iterator[tuple[str, Sets]]:
    """Everything that is asked, by its kind."""
    top = usual_top(answers.words[0].box.size)
    yield BOX, of_box(answers, top, random)
    yield RANDOM, at_random(answers, top, random)
    for view in MAPS:
        own, wrong = own_and_wrong(answers, view, top)
        yield view, own
        yield wrong_of(view), wrong


def _joined(some: Mapping[str, list[Any]], more: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: [*some.get(name, ()), *series] for name, series in more.items()}


def result_of(raw: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any], ran: Mapping[str, Any]) -> Result:
    """The measurement as a results file has it; `ran` is the machine."""
    model = settings["model"]
    what = (
        f"{model} in float32, {settings['scenes']} held-out scenes (seed {settings['seed']}), a description and one "
        "other question of each. A token needs the image when its log probability really falls by more than 1 nat "
        "where the scene's objects are painted over. Words are those of them that name an object in a description; "
        f"patches are {settings['top']} of {settings['patches']}, the mean embedding takes the others' place, "
        "and a word is kept while its probability is "
        "above 0.5. A map is right when its strongest patch has its centre in the named object's box. Wrong ones, "
        "whose strongest patch has not, are maps of a word that names another object, of a word about another scene, "
        "or the word's own transposed, one for each word. Intervals are over scenes (bootstrap). More in "
        "[checks.md](../checks.md#measured-against-known-truth)."
    )
    return Result(_title(model), what, ran, settings, figures(raw), raw)


def of_model(model: str) -> dict[str, Any]:
    """What the settings say of a model: its name, its patches, and how many of them are tested."""
    vision = json.loads((MODEL_STORE / model / "config.json").read_text("utf-8"))["vision_config"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    return {"model": model, "patches": patches, "top": usual_top(patches)}


def _title(model: str) -> str:
    return TITLE if model == MODEL else f"{TITLE}: {model}"


def arguments() -> argparse.Namespace:
    """The command line."""
    asked = parser(
        "Measure whether the checks of an answer tell right from wrong, on scenes of known truth.",
        "python -m bench.known.checks\n  python -m bench.known.checks --scenes 8 --out out/checks.json\n"
        "  python -m bench.known.checks --table",
    )
    asked.add_argument("--model", choices=[*FILES], default=MODEL, help="whose world (default: %(default)s)")
    asked.add_argument("--scenes", type=int, default=SCENES, help="how many (default: %(default)d)")
    asked.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: all cores)")
    asked.add_argument("--out", type=Path, help="results file (default: the published one)")
    asked.add_argument("--table", action="store_true", help="only write figures and table anew, from the results")
    return asked.parse_args()


def main() -> int:
    """Exit 0 when measured; 1 when a target was missed, all the same written."""
    given = arguments()
    model: str = given.model
    out: Path = given.out or FOLDER / FILES[model]
    torch.set_num_threads(1)
    begin, ran = time.monotonic(), machine()
    for scenes, raw in () if given.table else measure_all(asked_of(given.scenes, model), model, given.jobs):
        settings = {**of_model(model), "scenes": scenes, "seed": SEED, "maps": [*MAPS]}
        write(out, Result(_title(model), "", ran, settings, [], raw))
        say(f"{scenes} of {given.scenes} scenes, {time.monotonic() - begin:.0f} s")
    earlier = results(out)
    write(out, result_of(earlier.raw, earlier.settings, earlier.machine))
    return concluded(out, text, PAGE, replaced)


if __name__ == "__main__":
    run(main)
