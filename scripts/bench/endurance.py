"""Sends 1,000 requests in a row through one engine, and reports how memory and the number of compilations develop.

Flow: engine (compiled where a C++ compiler is) -> 1,000 requests with changing options -> resident memory after each
group -> slope in KB per request after the warm-up, graphs compiled after it -> docs/benchmarks/endurance.json.
Example: python -m bench.endurance --requests 1000
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from bench.parts.endurance import Watch, endure
from bench.parts.intervals import slope
from bench.parts.results import FOLDER, Figure, Result, machine, write
from llava_server.engine import Engine
from servekit.paths import MODEL_STORE


def figures(seen: Watch, warm_up: int) -> list[Figure]:
    """The rows of the table.

    Args:
        seen: what was watched.
        warm_up: requests that do not count: allocators and caches fill up.
    """
    after = [i for i, done in enumerate(seen.requests) if done >= warm_up]
    requests = [seen.requests[i] for i in after]
    kilobytes = [seen.resident_bytes[i] / 1024 for i in after]
    total = (kilobytes[-1] - kilobytes[0]) / 1024
    return [
        Figure("requests, with other options every time", seen.requests[-1], ""),
        Figure.of(
            "resident memory after the warm-up",
            slope(requests, kilobytes),
            "KB per request",
            note=f"{total:+.1f} MB from request {requests[0]} to {requests[-1]}",
        ),
        Figure("resident memory at the end", kilobytes[-1] / 1024, "MB"),
        Figure(
            "graphs compiled after loading",
            seen.graphs[-1] - seen.graphs_before,
            "",
            at_most=0,
            note=f"{seen.graphs_before} while loading",
        ),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when measured; 2 for bad arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "model", nargs="?", default="llava-shapes", help="a model of model_store (default llava-shapes)"
    )
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--warm-up", type=int, default=300, help="requests before memory counts (default %(default)s)")
    parser.add_argument("--no-compile", action="store_true", help="decode on the growing cache alone")
    parser.add_argument("--out", type=Path, help="results file (default: docs/benchmarks/endurance.json)")
    given = parser.parse_args(arguments)
    if given.requests < given.warm_up + 100:
        print(f"error: --requests: got {given.requests}, expected {given.warm_up + 100} or more", file=sys.stderr)
        return 2
    compiled = not given.no_compile and shutil.which("g++") is not None
    content = yaml.safe_load((MODEL_STORE / f"{given.model}.yaml").read_text(encoding="utf-8"))
    section: dict[str, Any] = content["handler"]
    engine = Engine.load(MODEL_STORE / given.model, settings={**section, "compile": compiled}, device="cpu")
    torch.set_num_threads(1)

    def progress(seen: Watch) -> None:
        print(
            f"{seen.requests[-1]} requests, {seen.resident_bytes[-1] >> 20} MB, {seen.graphs[-1]} graphs",
            file=sys.stderr,
            end="\r",
        )

    seen = endure(engine, given.requests, progress)
    print(file=sys.stderr)
    rows = figures(seen, given.warm_up)
    for row in rows:
        interval = "" if row.low is None else f"[{row.low:.3f}, {row.high:.3f}]"
        print(f"{row.name:<44} {row.value:10.3f} {row.unit:<16} {interval} {row.note}")
    what = (
        "Views, reductions, precisions, rows, steps, sampling, beams, several sequences, lengths, questions, picture "
        f"sizes and batch sizes change with every request; decoding is {'compiled' if compiled else 'not compiled'}."
    )
    settings = {"model": given.model, "requests": given.requests, "warm_up": given.warm_up, "compiled": compiled}
    raw: dict[str, Any] = {
        "requests": seen.requests,
        "resident_bytes": seen.resident_bytes,
        "graphs": seen.graphs,
        "options": dict(sorted(seen.options.items())),
        "shorter_than_its_steps": seen.refused,
    }
    path = given.out or FOLDER / "endurance.json"
    write(path, Result(f"{given.requests:,} requests in a row: {given.model}", what, machine(), settings, rows, raw))
    return 0


if __name__ == "__main__":
    sys.exit(main())
