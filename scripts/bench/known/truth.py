"""Measures where every method points, on scenes whose boxes are known: a real server, asked over HTTP.

Flow: held-out scenes and questions -> a server of its own -> one request per question with a view of every method,
replays for methods of many passes, on fewer scenes -> the metrics of `llava_eval` -> sums per scene ->
docs/benchmarks/truth.json and the tables of docs/methods.md.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from build_mar import build

from bench.known.asked import JUDGED_KINDS, MODEL, SEED, numbered, png
from bench.known.ending import concluded
from bench.known.figures import figures, scenes
from bench.known.page import PAGE, replaced, tables
from bench.known.scores import Tally, rows_of, words_of
from bench.known.views import RANDOM_HEAD, SINKS, UNIFORM, Served, View, judged, named, random_head, scenes_of
from bench.parts.results import FOLDER, Result, machine, read, write
from llava_doors.parts.sinks import LEAST_ROWS
from llava_viewer.client import Client
from llava_wire import Record
from servekit.cli import parser, run, say
from servekit.paths import SetupError, run_folder
from servekit.server import start_server
from shapes.sightings import Item

SCENES, PASSES = 240, 60_000
"""How many scenes; passes over prompt and answer that a method may take in all, so that slow ones get fewer scenes."""
TITLE, FILE = "Where methods point", "truth.json"


@dataclass
class Sinks:
    """Answers of each scene that are long enough for the rule, and those that lost a patch, by selection."""

    scenes: int
    answers: list[int] = field(init=False)
    alarms: dict[str, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.answers = [0] * self.scenes
        self.alarms = {name: [0] * self.scenes for name in SINKS}

    def count(self, scene: int, record: Record) -> None:
        """Counts an answer: maps that are not those of attention have lost a patch."""
        if sum(not token.special for token in record.tokens) < LEAST_ROWS:
            return
        self.answers[scene] += 1
        for name in SINKS:
            plain, without = (record.views[f"{method}: {name}"].maps_float() for method in ("attention", "sink_free"))
            self.alarms[name][scene] += bool((plain != without).any())


def sink_views() -> dict[str, View]:
    """The views by which false alarms of the rule for sinks are counted."""
    return {f"{m}: {name}": {"method": m, **view} for m in ("attention", "sink_free") for name, view in SINKS.items()}


@dataclass(frozen=True)
class Wanted:
    """The views of a measurement.

    Args:
        quick: those that come with the answer.
        slow: those whose methods take many passes, which are replays of the words' rows.
        most: of the slow ones, on how many scenes.
    """

    quick: Mapping[str, View]
    slow: Mapping[str, View]
    most: Mapping[str, int]

    @classmethod
    def of(cls, views: Mapping[str, View], served: Served, scenes: int, budget: int) -> Wanted:
        """The views in two parts, by the passes that their methods say they take."""
        passes = {name: served.passes(view) for name, view in views.items()}
        slow = {name: view for name, view in views.items() if passes[name]}
        most = {name: scenes_of(passes[name], scenes, budget) for name in slow}
        return cls({name: view for name, view in views.items() if name not in slow}, slow, most)

    def scenes(self, count: int) -> int:
        """On how many of `count` scenes some of the views are judged."""
        return count if self.quick else max(self.most.values(), default=0)


def measure(
    client: Client, items: Sequence[tuple[int, Item]], views: Mapping[str, View], budget: int, precision: str
) -> dict[str, Any]:
    """Asks about every item and judges the answers.

    Args:
        items: with the number of their scene.
        views: what is judged beside the controls.
        budget: passes over prompt and answer that each slow view may take in all.
        precision: of the maps, as they travel.

    Returns:
        `raw`, `sinks`, and how many answers are `right`.
    """
    count, served, rng = items[-1][0] + 1, Served.of(MODEL), random.Random(SEED)
    wanted = Wanted.of(views, served, count, budget)
    tally, sinks, right = Tally(count), Sinks(count), 0
    begin = time.monotonic()
    for done, (scene, item) in enumerate(items, 1):
        judging = item.question.kind in JUDGED_KINDS
        asked = {**sink_views(), RANDOM_HEAD: random_head(served.facts, rng), **(wanted.quick if judging else {})}
        record = ask(client, item, asked, precision)
        sinks.count(scene, record)
        right += record.answer == item.question.answer
        if judging:
            words = tally.count(scene, item, record)
            tally.judge(scene, item, record, words, [*wanted.quick, RANDOM_HEAD, UNIFORM])
            judge_slow(client, tally, wanted, scene, item, record, precision)
        if done % 100 == 0:
            say(f"{done} of {len(items)} questions, {time.monotonic() - begin:.0f} s")
    return {"raw": tally.raw(), "sinks": {"answers": sinks.answers, "alarms": sinks.alarms}, "right": right}


def measure_further(
    client: Client, items: Sequence[tuple[int, Item]], views: Mapping[str, View], budget: int, precision: str
) -> dict[str, Any]:
    """The same of some views alone, on the scenes that they need, without controls; `raw` only."""
    count = items[-1][0] + 1
    wanted = Wanted.of(views, Served.of(MODEL), count, budget)
    tally, last = Tally(count), wanted.scenes(count)
    for scene, item in items:
        if item.question.kind in JUDGED_KINDS and scene < last:
            record = ask(client, item, wanted.quick or {"any": {"method": "attention"}}, precision)
            tally.judge(scene, item, record, tally.count(scene, item, record), wanted.quick)
            judge_slow(client, tally, wanted, scene, item, record, precision)
            if item.question.kind == JUDGED_KINDS[0]:
                say(f"scene {scene + 1} of {last}")
    return {"raw": tally.raw()}


def judge_slow(
    client: Client, tally: Tally, wanted: Wanted, scene: int, item: Item, record: Record, precision: str
) -> None:
    """Replays an answer for each slow view that is judged on its scene, the rows of its words alone."""
    words = words_of(item, record)
    for name, view in wanted.slow.items():
        if words and scene < wanted.most[name]:
            options = {"views": named({name: view}), "steps": rows_of(words), "precision": precision}
            tally.judge(scene, item, client.replay(record, options), words, [name])


def ask(client: Client, item: Item, views: Mapping[str, View], precision: str) -> Record:
    """One question over HTTP, with these views."""
    options = {"views": named(views), "precision": precision}
    return client.predict(png(item), item.question.text, options, max_new_tokens=48, check=[])


def joined(measured: Mapping[str, Any], earlier: Result) -> dict[str, Any]:
    """Earlier results with a measurement of further views on the first of their scenes.

    Raises:
        SetupError: other words than those of the results.
    """
    kept = {name: series for name, series in earlier.raw.items() if name != "sinks"}
    added = {name: series for name, series in measured["raw"].items() if name != "words"}
    upto = max(scenes(added, name) for name in added)
    for group, counts in measured["raw"]["words"].items():
        if counts[:upto] != kept["words"].get(group, ())[:upto]:
            raise SetupError(f"--missing: got other {group} words than the results hold; measure all again")
    return {"raw": {**kept, **added}, "sinks": earlier.raw["sinks"]}


def result_of(measured: Mapping[str, Any], settings: Mapping[str, Any]) -> Result:
    """The measurement as a results file has it."""
    what = (
        f"{MODEL} behind a real server, asked over HTTP about {settings['scenes']} held-out scenes (seed "
        f"{settings['seed']}, {settings['questions']:,} questions, {settings['right']:,} answered right), maps in "
        f"{settings['precision']}. A word points when its map's strongest patch has its centre in the box of the "
        "object that it is about. Intervals are over scenes. The table of all methods is in "
        "[methods.md](../methods.md#measured-against-known-truth)."
    )
    raw = {**measured["raw"], "sinks": measured["sinks"]}
    return Result(TITLE, what, machine(), settings, figures(measured["raw"], measured["sinks"]), raw)


def from_server(measuring: Callable[[Client], dict[str, Any]]) -> dict[str, Any]:
    """What is measured with a client of a server of its own, which is stopped afterwards."""
    build(MODEL)
    name = f"truth-{os.getpid()}"
    with start_server([MODEL], name=name, ports="auto", progress=say) as server:
        key = Path(server.state.key_file)
        with Client.http(server.state.http, model=MODEL, token=key) as client:
            measured = measuring(client)
    shutil.rmtree(run_folder(name), ignore_errors=True)
    return measured


def main() -> int:
    """Exit 0 when measured; 1 when a target was missed, all the same written."""
    arguments = parser(
        "Measure where every method points, over HTTP, on scenes whose boxes are known.",
        "python -m bench.known.truth\n  python -m bench.known.truth --scenes 8 --out out/truth.json\n"
        "  python -m bench.known.truth --table",
    )
    arguments.add_argument("--scenes", type=int, default=SCENES, help="how many (default: %(default)d)")
    arguments.add_argument(
        "--passes", type=int, default=PASSES, help="that a method may take in all (default: %(default)d)"
    )
    arguments.add_argument("--precision", default="uint8", help="of the maps, as they travel (default: %(default)s)")
    arguments.add_argument("--out", type=Path, default=FOLDER / FILE, help="results file (%(default)s)")
    arguments.add_argument("--missing", action="store_true", help="keep the results, add views that they lack")
    arguments.add_argument("--table", action="store_true", help="only write the tables anew, from the results")
    given = arguments.parse_args()
    if not given.table:
        earlier = read(given.out) if given.missing else None
        views = {name: view for name, view in judged().items() if earlier is None or name not in earlier.raw}
        items = numbered(given.scenes)
        measuring = measure if earlier is None else measure_further
        measured = from_server(lambda client: measuring(client, items, views, given.passes, given.precision))
        settings = {
            "scenes": given.scenes, "seed": SEED, "passes": given.passes, "precision": given.precision,
            "questions": len(items), "right": measured.get("right"),
        }  # fmt: skip
        if earlier is not None:
            measured, settings = joined(measured, earlier), dict(earlier.settings)
        write(given.out, result_of(measured, settings))
    return concluded(given.out, tables, PAGE, replaced)


if __name__ == "__main__":
    run(main)
