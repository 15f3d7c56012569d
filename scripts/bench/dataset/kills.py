"""Counts what a dataset run keeps of its records when it is killed: an undisturbed run against one killed with -9.

Flow: generated scenes -> `llava-viewer run` to its end -> the same into another folder, killed at random moments and
started again -> both stores, item by item -> docs/benchmarks/kills.json. In process every record must be the same bytes
but for its run block; against a server batches have other sizes, which tokens must not show.
Example: python -m bench.dataset.kills --items 5000 --way engine
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from build_mar import build

from bench.dataset.runs import IN_FLIGHT, MODEL, write_items
from bench.parts.results import FOLDER, Figure, Result, machine, write
from llava_viewer.store import Store
from llava_wire import decode, encode
from servekit.cli import run, say
from servekit.paths import ROOT, with_sources
from servekit.server import start_server

ENGINE, SERVER = "engine", "server"
_EARLIEST, _LATEST = 0.1, 0.3
"""When a run is killed after its start, in parts of what the undisturbed one took."""
_EVERY_S = 0.5


@dataclass
class Watched:
    """A run that was watched: seconds, and its resident bytes at each look."""

    seconds: float = 0.0
    resident: list[int] = field(default_factory=list)


@dataclass
class Compared:
    """Two stores, item by item.

    Args:
        rows, distinct: of the disturbed store; errors among them.
        bytes_differ: records whose bytes differ, run blocks left out; answers_differ: whose text does.
        log_p: the largest difference of a log probability, nats; codes: of a map's stored value.
    """

    rows: int = 0
    distinct: int = 0
    errors: int = 0
    bytes_differ: int = 0
    answers_differ: int = 0
    log_p: float = 0.0
    codes: int = 0


def watched(command: Sequence[str], after_s: float | None = None) -> Watched:
    """Runs a command to its end, or kills it after so many seconds.

    Raises:
        RuntimeError: it failed, or had ended before it could be killed.
    """
    found, began = Watched(), time.perf_counter()
    with subprocess.Popen(
        command, env=with_sources(os.environ), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            if after_s is not None and time.perf_counter() - began >= after_s:
                process.send_signal(signal.SIGKILL)
                process.wait()
                found.seconds = time.perf_counter() - began
                return found
            found.resident.append(_resident(process.pid))
            time.sleep(_EVERY_S)
        found.seconds = time.perf_counter() - began
    if process.returncode or after_s is not None:
        raise RuntimeError(f"run: got exit code {process.returncode}, kill after {after_s} s; expected it to go on")
    return found


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def compared(calm: Path, disturbed: Path) -> Compared:
    """Holds every record of a disturbed run against that of an undisturbed one.

    Raises:
        RuntimeError: an item is missing, or comes twice.
    """
    found = Compared()
    with Store(calm) as one, Store(disturbed) as two:
        rows = list(two.rows())
        found.rows, found.distinct = len(rows), len({row["id"] for row in rows})
        found.errors = sum(row["error"] is not None for row in rows)
        if [row["id"] for row in rows] != list(one):
            raise RuntimeError(f"{disturbed}: got {found.rows} rows, expected one for each of {len(one)} items")
        for id in one:
            here, there = decode(one.read(id)), decode(two.read(id))
            found.bytes_differ += encode(here.without_run()) != encode(there.without_run())
            if here.answer != there.answer or len(here.tokens) != len(there.tokens):
                found.answers_differ += 1
                continue
            pairs = zip(here.tokens, there.tokens, strict=True)
            found.log_p = max(found.log_p, *(abs(token.logprob - other.logprob) for token, other in pairs))
            for name, view in here.views.items():
                codes = np.abs(view.stored.astype(np.int64) - there.views[name].stored.astype(np.int64))
                found.codes = max(found.codes, int(codes.max(initial=0)))
    return found


@contextmanager
def asking(way: str) -> Iterator[list[str]]:
    """The arguments that say who is asked; a server runs meanwhile."""
    if way == ENGINE:
        yield ["--engine", MODEL, "--device", "cpu"]
        return
    build(MODEL)
    with start_server([MODEL], ports="auto", name="bench-kills") as server:
        state = server.state
        yield ["--url", state.http, "--key-file", state.key_file, "--in-flight", str(IN_FLIGHT)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes kills.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--way", choices=(ENGINE, SERVER), action="append")
    given = parser.parse_args(arguments)
    source = random.Random()
    figures, raw = [], {}
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        data = write_items(folder, given.items)
        for way in given.way or (ENGINE, SERVER):
            with asking(way) as where:
                command = [sys.executable, "-m", "llava_viewer.cli", "run", str(data), *where, "-o"]
                calm, disturbed = folder / f"{way}-calm", folder / f"{way}-killed"
                whole = watched([*command, str(calm)])
                say(f"{way}: undisturbed in {whole.seconds:.0f} s")
                parts = []
                for number in range(given.kills):
                    parts.append(
                        watched([*command, str(disturbed)], source.uniform(_EARLIEST, _LATEST) * whole.seconds)
                    )
                    left = len(list((disturbed / "parts").glob("*.tar")))
                    say(f"{way}: kill {number + 1} after {parts[-1].seconds:.0f} s, {left} parts are there")
                parts.append(watched([*command, str(disturbed)]))
                found = compared(calm, disturbed)
                say(f"{way}: {found}")
            raw[way] = {"seconds": [whole.seconds, *(part.seconds for part in parts)], **vars(found),
                        "resident_bytes": whole.resident}  # fmt: skip
            figures += _figures(way, whole, found, given.items)
    result = Result(
        "Runs that are killed",
        f"{given.items} questions about generated scenes, {MODEL}: a run killed {given.kills} times at random moments, "
        "against an undisturbed one.",
        machine(),
        {"items": given.items, "kills": given.kills},
        figures,
        raw,
    )
    write(FOLDER / "kills.json", result)
    return 0


def _figures(way: str, whole: Watched, found: Compared, items: int) -> list[Figure]:
    figures = [
        Figure(f"{way}: items that are there once", found.distinct, "items", at_least=items),
        Figure(f"{way}: items with an error", found.errors, "items", at_most=0),
        Figure(f"{way}: answers that differ", found.answers_differ, "items", at_most=0),
        Figure(f"{way}: largest difference of log p", found.log_p, "nats", at_most=1e-4),
        Figure(f"{way}: largest difference of a map's stored value", found.codes, "codes", at_most=1),
    ]
    if way == ENGINE:
        figures.append(Figure(f"{way}: records whose bytes differ", found.bytes_differ, "items", at_most=0))
    # The middle of each, since the table of all rows, which is written at the end, takes another library.
    second, last = (statistics.median(part) for part in (quarter(whole.resident, 1), quarter(whole.resident, 3)))
    grown = Figure(
        f"{way}: memory of run itself, last quarter above the second", (last - second) / 1e6, "MB", at_most=10
    )
    return [*figures, grown, Figure(f"{way}: memory of run itself, at most", max(whole.resident) / 1e6, "MB")]


def quarter(looks: Sequence[int], number: int) -> Sequence[int]:
    """One of the four quarters of a run's looks, from 0."""
    return looks[len(looks) * number // 4 : len(looks) * (number + 1) // 4] or looks


if __name__ == "__main__":
    run(main)
