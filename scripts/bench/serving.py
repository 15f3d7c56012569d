"""Measures what serving costs: a real server against the engine in this process, alone and with eight clients.

Flow: engine in process and a server of its own with the same settings -> rounds in random order, one idle while the
other works -> latency differences and throughput ratios, pair by pair, batch sizes, CPU time of client, Java and
workers -> docs/benchmarks/serving-<model>.json.
Example: python -m bench.serving --rounds 20
"""

from __future__ import annotations

import argparse
import io
import json
import random
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import psutil
from build_mar import build

from bench.parts.intervals import median, paired_ratio
from bench.parts.results import FOLDER, Figure, Result, machine, write
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_viewer.client import Client
from llava_wire import Record
from servekit.cli import run, say
from servekit.paths import HANDLER_ROOT, MODEL_STORE
from servekit.server import ServerHandle, start_server
from shapes.scenes import make_scene

MODEL = "llava-shapes"
PROMPT = "Describe the image."
CLIENTS = 8
PICTURES = 16
PER_ROUND = 64
"""Requests of one throughput round of the server; the engine answers half as many."""
WAYS = ("HTTP", "gRPC")
INSIDE = ("engine", "batch")
"""The engine in this process, one request after another, and as many in one batch as there are clients."""
TARGET = 4.0
"""Throughput of eight clients in multiples of the engine's at batch 1."""

TRIED = (
    "the row of the engine with eight in one batch is the most that one core gives without any server: prefill is "
    "arithmetic that batches hardly shorten (a thread's CPU time: 5.3 ms alone, 3.8 ms each of eight); tried: two "
    "threads, two workers, waiting 5 ms for fuller batches, each 1.4 to 2.1"
)
"""What a reader must know where the throughput target is missed; the ranges are those of runs on the machine named."""


def pictures() -> list[bytes]:
    """Landscape scenes as PNG files, about 50 KB each; always the same."""
    files = []
    for number in range(PICTURES):
        buffer = io.BytesIO()
        make_scene(random.Random(f"bench {number}"), "landscape").image.save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files


def in_process() -> Callable[[list[bytes]], list[Record]]:
    """The engine in this process, a batch at a time, with the settings that the server has."""
    engine = Engine.load(MODEL_STORE / MODEL, device="cpu")

    def ask(files: list[bytes]) -> list[Record]:
        records = engine.run([GenerateRequest.build(picture, PROMPT) for picture in files])
        assert all(isinstance(record, Record) for record in records), records
        return cast("list[Record]", records)

    return ask


def milliseconds(call: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1000


def lone(ways: dict[str, Callable[[bytes], object]], files: list[bytes], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of single requests; each round asks every way about one picture."""
    order, rng = list(ways), random.Random(0)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        rng.shuffle(order)
        for name in order:
            taken[name].append(milliseconds(partial(ways[name], files[number % len(files)])))
    return taken


class Together:
    """Eight clients, each with a connection of its own, that ask as fast as they are answered."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self._clients = [make() for _ in range(CLIENTS)]
        self._pool = ThreadPoolExecutor(CLIENTS)

    def ask(self, files: list[bytes], count: int) -> list[bytes]:
        """The answers to `count` requests."""

        def some(number: int) -> list[bytes]:
            client = self._clients[number]
            return [
                client.predict_bytes(files[i % len(files)], PROMPT, format="npz") for i in range(number, count, CLIENTS)
            ]

        return [body for bodies in self._pool.map(some, range(CLIENTS)) for body in bodies]

    def close(self) -> None:
        """Closes the connections."""
        for client in self._clients:
            client.close()
        self._pool.shutdown()


def crowded(
    engine: Callable[[list[bytes]], list[Record]],
    crowds: dict[str, Together],
    server: ServerHandle,
    files: list[bytes],
    rounds: int,
) -> dict[str, Any]:
    """Requests per second of engine and server, round by round; batch sizes; CPU milliseconds per request."""
    rng = random.Random(1)
    rates: dict[str, list[float]] = {name: [] for name in (*INSIDE, *crowds)}
    sizes: dict[str, Counter[int]] = {way: Counter() for way in crowds}
    cpu: dict[str, list[list[float]]] = {way: [] for way in crowds}
    for way in crowds:
        crowds[way].ask(files, PER_ROUND)
    for _ in range(rounds):
        for name in rng.sample(list(rates), len(rates)):
            if name in INSIDE:
                count, size = PER_ROUND // 2, CLIENTS if name == "batch" else 1
                picked = [[files[(i + j) % len(files)] for j in range(size)] for i in range(0, count, size)]
                taken = milliseconds(partial(list, map(engine, picked)))
                rates[name].append(count / taken * 1000)
                continue
            before = cpu_seconds(server)
            begin = time.perf_counter()
            bodies = crowds[name].ask(files, PER_ROUND)
            rates[name].append(PER_ROUND / (time.perf_counter() - begin))
            spent = [(b - a) * 1000 / PER_ROUND for a, b in zip(before, cpu_seconds(server), strict=True)]
            cpu[name].append(spent)
            sizes[name].update(batch_size(body) for body in bodies)
    histograms = {way: {str(size): count for size, count in sorted(counts.items())} for way, counts in sizes.items()}
    return {"requests_per_s": rates, "batch_sizes": histograms, "cpu_ms_per_request": cpu}


def batch_size(body: bytes) -> int:
    """How many requests shared the batch of a record."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        return int(json.loads(archive.read("run.json"))["batch_size"])


def cpu_seconds(server: ServerHandle) -> list[float]:
    """CPU time of this process, of Java and of the workers."""
    java = psutil.Process(server.state.pid)
    used = [psutil.Process(), java]
    times = [sum(process.cpu_times()[:2]) for process in used]
    return [*times, sum(sum(worker.cpu_times()[:2]) for worker in java.children(recursive=True))]


def memory_bytes(server: ServerHandle) -> tuple[int, int]:
    """Resident memory of Java and of its workers."""
    java = psutil.Process(server.state.pid)
    return java.memory_info().rss, sum(child.memory_info().rss for child in java.children(recursive=True))


def import_seconds(times: int) -> list[float]:
    """Seconds that a fresh process takes to import the handler."""
    command = [sys.executable, "-c", "import llava_handler"]
    return [
        milliseconds(lambda: subprocess.run(command, cwd=HANDLER_ROOT, check=True, stdout=subprocess.DEVNULL)) / 1000
        for _ in range(times)
    ]


def figures(raw: dict[str, Any]) -> list[Figure]:
    """The rows of the table."""
    alone, together = raw["lone_ms"], raw["together"]
    rows = [Figure.of("engine in process, one request", median(alone["engine"]), "ms")]
    for way in WAYS:
        extra = [served - inside for served, inside in zip(alone[way], alone["engine"], strict=True)]
        rows.append(Figure.of(f"one request over {way}", median(alone[way]), "ms"))
        rows.append(Figure.of(f"one request over {way}, beyond the engine", median(extra), "ms", at_most=10))
    rates = together["requests_per_s"]
    rows.append(Figure.of("engine in process, one request after another", median(rates["engine"]), "requests/s"))
    ceiling = paired_ratio(rates["batch"], rates["engine"])
    rows.append(Figure.of(f"engine in process, {CLIENTS} in one batch", median(rates["batch"]), "requests/s"))
    rows.append(Figure.of(f"engine in process, {CLIENTS} in one batch", ceiling, "x engine"))
    for way in WAYS:
        shares = ", ".join(f"{size}: {count}" for size, count in together["batch_sizes"][way].items())
        client, java, worker = (
            median(column).value for column in zip(*together["cpu_ms_per_request"][way], strict=True)
        )
        spent = f"CPU per request: clients {client:.1f} ms, Java {java:.1f} ms, workers {worker:.1f} ms"
        rows.append(
            Figure.of(f"{CLIENTS} clients over {way}", median(rates[way]), "requests/s", note=f"batch sizes {shares}")
        )
        ratio = paired_ratio(rates[way], rates["engine"])
        rows.append(Figure.of(f"{CLIENTS} clients over {way}", ratio, "x engine", at_least=4, note=f"{spent}; {TRIED}"))
    rows.append(Figure.of("importing the handler", median(raw["import_s"]), "s"))
    rows.append(Figure("start until READY and gRPC bound", raw["start_s"], "s"))
    java_bytes, worker_bytes = raw["memory_bytes"]
    rows.append(Figure("resident memory of Java", java_bytes / 1e6, "MB"))
    rows.append(Figure("resident memory of the workers", worker_bytes / 1e6, "MB"))
    return rows


def measure(rounds: int) -> dict[str, Any]:
    """Every raw number."""
    files, engine = pictures(), in_process()
    imports = import_seconds(3)
    begin = time.monotonic()
    with start_server([MODEL], name="bench", ports="auto", progress=say) as server:
        started = time.monotonic() - begin
        key = Path(server.state.key_file)
        makers = {
            "HTTP": lambda: Client.http(server.state.http, model=MODEL, token=key),
            "gRPC": lambda: Client.grpc(server.state.grpc, model=MODEL, token=key),
        }
        single = {way: makers[way]() for way in WAYS}
        ways: dict[str, Callable[[bytes], object]] = {"engine": lambda data: engine([data])}
        for way, client in single.items():
            ways[way] = partial(client.predict_bytes, prompt=PROMPT, format="npz")
        crowds = {way: Together(makers[way]) for way in WAYS}
        lone(ways, files, 5)
        say("measuring one request at a time")
        alone = lone(ways, files, rounds * 10)
        say(f"measuring {CLIENTS} clients")
        together = crowded(engine, crowds, server, files, rounds)
        memory = memory_bytes(server)
        for client in single.values():
            client.close()
        for crowd in crowds.values():
            crowd.close()
    return {
        "lone_ms": alone,
        "together": together,
        "import_s": imports,
        "start_s": started,
        "memory_bytes": memory,
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="throughput rounds; ten times as many single requests")
    parser.add_argument("--out", type=Path, default=FOLDER / f"serving-{MODEL}.json", help="results file")
    given = parser.parse_args()
    build(MODEL)
    raw = measure(given.rounds)
    what = (
        f"Engine in this process and a real server, same settings, {PICTURES} scenes of about 50 KB, answers of about "
        f"{PROMPT!r}; clients, Java and workers share the cores. Differences and ratios are taken round by round."
    )
    settings = {"model": MODEL, "clients": CLIENTS, "rounds": given.rounds, "requests_per_round": PER_ROUND}
    result = Result("Serving the small model", what, machine(), settings, figures(raw), raw)
    write(given.out, result)
    for figure in result.figures:
        interval = "" if figure.low is None else f" [{figure.low:.4g}, {figure.high:.4g}]"
        print(f"{figure.name:<50} {figure.value:9.4g} {figure.unit}{interval}  {figure.note}")
    return 0


if __name__ == "__main__":
    run(main)
