"""Breaks a real server in every way that is known to happen, and measures what clients see of it.

Flow: one question with the engine's own answer -> each fault under watch -> docs/benchmarks/faults.json, and the table
in docs/operations.md; exit code 1 when something did not recover or an answer was lost.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
from collections.abc import Callable
from typing import Any

from build_mar import build
from servekit.cli import parser, run, say
from servekit.paths import ROOT, run_folder
from servekit.server import start_server

from drills.faults import MODEL, OWN, SHARED
from drills.scene import Row
from drills.table import replaced, table
from soaking.cases import good_cases
from soaking.revision import commit

FIGURES = ROOT / "docs" / "benchmarks" / "faults.json"
PAGE = ROOT / "docs" / "operations.md"


def drill(chosen: list[str]) -> list[Row]:
    """Runs the named drills, or all of them."""
    case = good_cases(1, 1)[0]
    rows = []

    def one(name: str, play: Callable[[], Row]) -> None:
        if not chosen or name in chosen:
            rows.append(play())
            say(f"{name}: {rows[-1].plain()}")

    name = f"drill-shared-{os.getpid()}"
    with start_server([MODEL], name=name, ports="auto", progress=say) as server:
        for shared in SHARED:
            one(shared.__name__, lambda shared=shared: shared(server.state, case))
    shutil.rmtree(run_folder(name), ignore_errors=True)
    for own in OWN:
        one(own.__name__, lambda own=own: own(case))
    return rows


def main() -> int:
    """The command line."""
    arguments = parser(
        "Break a server on purpose and measure the recovery.",
        "python scripts/fault_drill.py --write\n  python scripts/fault_drill.py worker_killed java_killed",
    )
    names = [fault.__name__ for fault in (*SHARED, *OWN)]
    arguments.add_argument("faults", nargs="*", metavar="FAULT", help=f"(default: all) {', '.join(names)}")
    arguments.add_argument("--write", action="store_true", help="write the figures and the table of docs/operations.md")
    given = arguments.parse_args()
    if given.faults and given.write:
        arguments.error("--write: got it with single faults, allowed with all of them; the table has a row for each")
    unknown = set(given.faults) - set(names)
    if unknown:
        arguments.error(f"fault: got {sorted(unknown)}, allowed {names}")
    build(MODEL)
    rows = [row.plain() for row in drill(given.faults)]
    content: dict[str, Any] = {
        "commit": commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "rows": rows,
    }
    if given.write:
        FIGURES.parent.mkdir(parents=True, exist_ok=True)
        FIGURES.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(replaced(PAGE.read_text("utf-8"), rows), encoding="utf-8")
    print(table(rows))
    return 1 if any(row["lost"] or not math.isfinite(row["recovery_s"]) for row in rows) else 0


if __name__ == "__main__":
    run(main)
