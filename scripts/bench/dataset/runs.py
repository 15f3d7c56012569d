"""Measures what `llava-viewer run` adds: in process beside the engine alone, against a server beside clients alone.

Flow: generated scenes -> rounds in random order of four ways over the same items, each in a process of its own and
timed from the moment it can ask -> ratios of rates, round by round, and `run`'s memory -> docs/benchmarks/runs.json.
Example: python -m bench.dataset.runs --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from build_mar import build

from bench.parts.intervals import median, paired_ratio
from bench.parts.results import FOLDER, Figure, Result, machine, write
from servekit.cli import run, say
from servekit.paths import ROOT, with_sources
from servekit.server import start_server
from shapes.questions import ask
from shapes.scenes import make_scene

MODEL = "llava-shapes"
KINDS = ("describe", "exists-yes")
SEED = 5000
IN_FLIGHT = 32
ENGINE, RUN_ENGINE, CLIENTS, RUN_SERVER = "engine alone", "run --engine", "clients alone", "run"
PAIRS = ((RUN_ENGINE, ENGINE, 0.85), (RUN_SERVER, CLIENTS, 0.9))
"""What is held against what, and the target."""
_READY = {RUN_ENGINE: "the engine has loaded", RUN_SERVER: "asking "}
"""The line after which a run can ask."""


def write_items(folder: Path, count: int) -> Path:
    """Scenes with two questions each, always the same, as images and JSON lines."""
    source, lines = random.Random(SEED), list[str]()
    for number in range(count // len(KINDS)):
        scene, name = make_scene(source), f"{number:05}.png"
        scene.image.save(folder / name, compress_level=1)
        for kind in KINDS:
            question = ask(source, scene.layout, kind)
            assert question is not None, f"every scene allows {kind}"
            lines.append(json.dumps({"id": f"{number:05}-{kind}", "image": name, "prompt": question.text}))
    path = folder / "items.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def plain(*arguments: str) -> float:
    """Seconds that a plain program took for all items."""
    command = [sys.executable, "-m", "bench.dataset.plain", *arguments]
    env = with_sources(os.environ)
    said = subprocess.run(command, env=env, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(said.stdout)["seconds"])


def timed_run(ready: str, *arguments: str) -> tuple[float, float]:
    """Seconds of `llava-viewer run` from the line that says it can ask to its end; and its largest resident bytes."""
    command = [sys.executable, "-m", "llava_viewer.cli", "run", *arguments]
    began, most = 0.0, 0
    with subprocess.Popen(
        command, env=with_sources(os.environ), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if not began and line.startswith(ready):
                began = time.perf_counter()
            if process.poll() is None:
                most = max(most, psutil.Process(process.pid).memory_info().rss)
        code = process.wait()
        ended = time.perf_counter()
    if code or not began:
        raise RuntimeError(f"run: exit code {code}; ready: {bool(began)}")
    return ended - began, most


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes runs.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    rates: dict[str, list[float]] = {name: [] for name in (ENGINE, RUN_ENGINE, CLIENTS, RUN_SERVER)}
    memory: list[float] = []
    build(MODEL)
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        data = write_items(folder, given.items)
        with start_server([MODEL], ports="auto", name="bench-runs") as server:
            state = server.state

            def run_way(name: str, *where: str) -> Callable[[], float]:
                def timed() -> float:
                    out = folder / f"{name.replace(' ', '')}-{len(rates[name])}"
                    seconds, most = timed_run(_READY[name], str(data), "-o", str(out), *where)
                    memory.append(most)
                    return seconds

                return timed

            address = ["--url", state.http, "--key-file", state.key_file, "--in-flight", str(IN_FLIGHT)]
            ways: dict[str, Callable[[], float]] = {
                ENGINE: lambda: plain(str(data), "engine", MODEL),
                RUN_ENGINE: run_way(RUN_ENGINE, "--engine", MODEL, "--device", "cpu"),
                CLIENTS: lambda: plain(str(data), "server", MODEL, state.http, state.key_file, str(IN_FLIGHT)),
                RUN_SERVER: run_way(RUN_SERVER, *address),
            }
            order, source = list(ways), random.Random(0)
            for number in range(given.rounds):
                source.shuffle(order)
                for name in order:
                    rates[name].append(given.items / ways[name]())
                    say(f"round {number + 1}, {name}: {rates[name][-1]:.2f} items a second")
    figures = [
        Figure.of(f"{one}, beside {other}", paired_ratio(rates[one], rates[other]), "x items a second", at_least=least)
        for one, other, least in PAIRS
    ]
    figures += [Figure.of(name, median(found), "items a second") for name, found in rates.items()]
    figures.append(Figure("memory of run itself, at most", max(memory) / 1e6, "MB"))
    result = Result(
        "Runs over many images",
        f"{given.items} questions about generated scenes, {MODEL}, default views; {IN_FLIGHT} requests in flight; "
        "ratios of rates of the same round, whose ways come in random order.",
        machine(),
        {"items": given.items, "rounds": given.rounds, "in_flight": IN_FLIGHT},
        figures,
        {"items_per_second": rates, "run_rss_bytes": memory},
    )
    write(FOLDER / "runs.json", result)
    return 0


if __name__ == "__main__":
    run(main)
