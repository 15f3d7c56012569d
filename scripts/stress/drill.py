"""Breaks a real server in every way that is known to happen, presses it with every load, and measures what clients see.

Flow: one question with the engine's own answer -> each fault and each load under watch -> docs/benchmarks/faults.json
and loads.json, and the tables in docs/operations.md; exit code 1 when something did not recover, an answer was lost, or
a claim of `stress.drills.claims` did not hold.
"""

from __future__ import annotations

import functools
import json
import math
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from build_mar import build

from servekit.cli import parser, run, say
from servekit.paths import ROOT, run_folder, shown
from servekit.server import start_server
from stress.crowding.loads import LOADS
from stress.drills.claims import verdicts
from stress.drills.faults import MODEL, OWN, SHARED
from stress.drills.pressed import press, press_worker
from stress.drills.scene import Row
from stress.drills.table import load_table, loads_replaced, replaced, table
from stress.soaking.cases import Case, good_cases
from stress.soaking.revision import commit

FOLDER = ROOT / "docs" / "benchmarks"
FIGURES = FOLDER / "faults.json"
LOAD_FIGURES = FOLDER / "loads.json"
PAGE = ROOT / "docs" / "operations.md"
_STOPPED = "worker_stopped"
FAULT_NAMES = tuple(fault.__name__ for fault in (*SHARED, *OWN))
LOAD_NAMES = (*LOADS, _STOPPED)
_ALL = {"faults": FAULT_NAMES, "loads": LOAD_NAMES}


def drill(chosen: Sequence[str], case: Case) -> list[Row]:
    """Plays the named faults."""
    rows: list[Row] = []

    def one(name: str, play: Callable[[], Row]) -> None:
        if name in chosen:
            rows.append(play())
            say(f"{name}: {rows[-1].plain()}")

    if any(shared.__name__ in chosen for shared in SHARED):
        name = f"drill-shared-{os.getpid()}"
        with start_server([MODEL], name=name, ports="auto", progress=say) as server:
            for shared in SHARED:
                one(shared.__name__, functools.partial(shared, server.state, case))
        shutil.rmtree(run_folder(name), ignore_errors=True)
    for own in OWN:
        one(own.__name__, functools.partial(own, case))
    return rows


def pressed(chosen: Sequence[str], case: Case, given: Any, note: Callable[[list[dict[str, Any]]], None]) -> list[Any]:
    """Runs the named loads; `note` is told of the rows after each, so that a run that is cut off leaves its figures."""
    rows: list[dict[str, Any]] = []
    for name in LOAD_NAMES:
        if name not in chosen:
            continue
        if name == _STOPPED:
            one = press_worker(MODEL, case, runs=given.runs)
        else:
            one = press(name, MODEL, case, runs=given.runs, share=given.share, descriptors=given.descriptors)
        rows.append(one.plain())
        for line in rows[-1]["failures"] or ["every claim holds"]:
            say(f"{name}: {line}")
        note(rows)
    return rows


def main() -> int:
    """The command line."""
    given = _arguments()
    chosen = _expanded(given.names or list(_ALL))
    build(MODEL)
    case = good_cases(1, 1)[0]
    facts: dict[str, Any] = {"commit": commit(), "machine": f"{platform.machine()}, {os.cpu_count()} CPUs"}
    rows = [row.plain() for row in drill(chosen, case)]
    if given.write and rows:
        _write(FIGURES, {**facts, "rows": rows})
        PAGE.write_text(replaced(PAGE.read_text("utf-8"), rows), encoding="utf-8")
    out = given.out or (LOAD_FIGURES if given.write else None)
    before = measured_before(LOAD_FIGURES) if given.write else {}
    facts |= {"share": given.share}

    def note(loads: list[dict[str, Any]]) -> None:
        if out is not None:
            found = {**before, **{row["name"]: {**facts, **row} for row in loads}}
            _write(out, {"rows": [found[name] for name in LOAD_NAMES if name in found]})

    loads = pressed(chosen, case, given, note)
    if given.write and loads and out is not None:
        PAGE.write_text(loads_replaced(PAGE.read_text("utf-8"), [*measured_before(out).values()]), encoding="utf-8")
    if rows:
        print(table(rows))
    if loads:
        print(load_table(loads))
    for line in verdicts(loads):
        say(line)
    sound = all(not row["lost"] and math.isfinite(row["recovery_s"]) for row in rows)
    return 0 if sound and not verdicts(loads) else 1


def measured_before(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of loads in a file of figures by name; none where there is no file."""
    return {row["name"]: row for row in json.loads(path.read_text("utf-8"))["rows"]} if path.exists() else {}


def _arguments() -> Any:
    arguments = parser(
        "Break a server on purpose, press it with every load, and measure what clients see.",
        "python -m stress.drill --write\n  python -m stress.drill loads --runs 20 --write\n"
        "  python -m stress.drill worker_killed java_killed\n"
        "  python -m stress.drill large_json --runs 20 --out out/drill.json",
    )
    names = ", ".join((*_ALL, *FAULT_NAMES, *LOAD_NAMES))
    arguments.add_argument("names", nargs="*", metavar="NAME", help=f"faults and loads (default: all): {names}")
    arguments.add_argument(
        "--write",
        action="store_true",
        help="write the tables of docs/operations.md; other loads keep their rows",
    )
    arguments.add_argument("--runs", type=int, default=1, help="of each load (default: %(default)d)")
    arguments.add_argument(
        "--share", type=float, default=1.0, help="of each load's count; 0.5: what an unguarded server dies of"
    )
    arguments.add_argument("--descriptors", type=int, help="how many open files the server may have under load")
    arguments.add_argument("--out", type=Path, help="where the figures of loads go as JSON, written after each load")
    given = arguments.parse_args()
    if given.write and (faults := sorted(set(given.names) & set(FAULT_NAMES))):
        arguments.error(f"--write: got it with {faults}, expected with all faults, whose table is written as a whole")
    unknown = set(given.names) - {*_ALL, *FAULT_NAMES, *LOAD_NAMES}
    if unknown:
        arguments.error(f"name: got {sorted(unknown)}, expected {names}")
    if given.runs < 1 or given.share <= 0:
        arguments.error("--runs, --share: got nothing to do, expected 1 or more and more than 0")
    return given


def _expanded(names: Sequence[str]) -> list[str]:
    """The names, "faults" and "loads" as what they stand for."""
    return [one for name in names for one in _ALL.get(name, (name,))]


def _write(path: Path, content: dict[str, Any]) -> None:
    """Writes figures as JSON; raw runs of loads, which are long, take a line each."""
    lines: dict[str, str] = {}
    rows = []
    for row in content["rows"]:
        marks = [f"raw {row.get('name')} {number}" for number, _ in enumerate(row.get("raw", ()))]
        lines |= {mark: json.dumps(one) for mark, one in zip(marks, row.get("raw", ()), strict=True)}
        rows.append({**row, "raw": marks} if marks else row)
    text = json.dumps({**content, "rows": rows}, indent=1)
    for mark, line in lines.items():
        text = text.replace(f'"{mark}"', line)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    say(f"written: {shown(path.resolve())}")


if __name__ == "__main__":
    run(main)
