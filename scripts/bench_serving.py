"""Measures a real server: start, latency of each way in, throughput when many ask at once, memory.

Flow: a server of its own on free ports -> timed requests through the project's client -> a Markdown table on stdout.
"""

from __future__ import annotations

import io
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from build_mar import build
from servekit.cli import parser, run, say
from servekit.server import ServerHandle, start_server

from llava_viewer.client import Client
from shapes.scenes import make_scene

MODEL = "llava-shapes"
PROMPT = "Describe the image."


def picture() -> bytes:
    """A landscape scene as a PNG file; always the same."""
    import random

    buffer = io.BytesIO()
    make_scene(random.Random("bench"), "landscape").image.save(buffer, "PNG")
    return buffer.getvalue()


def timed(call: Callable[[], object], count: int) -> list[float]:
    """Milliseconds of each of `count` calls, one after another, after three that do not count."""
    for _ in range(3):
        call()
    taken = []
    for _ in range(count):
        begin = time.perf_counter()
        call()
        taken.append((time.perf_counter() - begin) * 1000)
    return taken


def throughput(call: Callable[[], object], count: int, callers: int) -> float:
    """Requests per second with `callers` asking at once."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        for future in [pool.submit(call) for _ in range(count)]:
            future.result()
    return count / (time.perf_counter() - begin)


def memory_mb(server: ServerHandle) -> tuple[float, float]:
    """Resident memory of Java and of its workers."""
    java = psutil.Process(server.state.pid)
    workers = sum(child.memory_info().rss for child in java.children(recursive=True))
    return java.memory_info().rss / 1e6, workers / 1e6


def measure(count: int) -> list[tuple[str, str]]:
    """The rows of the table."""
    image = picture()
    begin = time.monotonic()
    with start_server([MODEL], name="bench", ports="auto", progress=say) as server:
        rows = [("start until READY and gRPC bound", f"{time.monotonic() - begin:.1f} s")]
        key_file = Path(server.state.key_file)
        http = Client.http(server.state.http, model=MODEL, token=key_file)
        grpc = Client.grpc(server.state.grpc, model=MODEL, token=key_file)
        ways: dict[str, Callable[[], object]] = {
            "HTTP, npz": lambda: http.predict_bytes(image, PROMPT),
            "HTTP, JSON": lambda: http.predict_bytes(image, PROMPT, format="json"),
            "gRPC, npz": lambda: grpc.predict_bytes(image, PROMPT),
        }
        record = http.predict(image, PROMPT)
        rows.append(("tokens of the answer", str(len(record.tokens))))
        inside = [
            float(record.run.get(name, 0)) for name in ("preprocess_ms", "prefill_ms", "decode_ms", "attention_ms")
        ]
        rows.append(
            ("inside the engine: picture, prefill, decode, attention", " / ".join(f"{ms:.0f}" for ms in inside))
        )
        for name, call in ways.items():
            say(f"measuring {name}")
            taken = timed(call, count)
            rows.append((f"{name}: median / 90 %", f"{statistics.median(taken):.0f} / {_share(taken, 0.9):.0f} ms"))
        for callers in (1, 8):
            say(f"measuring {callers} at once")
            rows.append((f"HTTP, {callers} at once", f"{throughput(ways['HTTP, npz'], count, callers):.1f} requests/s"))
        java, workers = memory_mb(server)
        rows.append(("memory: Java / worker", f"{java:.0f} / {workers:.0f} MB"))
        http.close()
        grpc.close()
    return rows


def _share(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> int:
    """The command line."""
    arguments = parser("Measure a real server with the small model.", "python scripts/bench_serving.py --requests 50")
    arguments.add_argument("--requests", type=int, default=30, help="per way (default: %(default)s)")
    count = arguments.parse_args().requests
    build(MODEL)
    rows = [("machine", f"{platform.machine()}, {psutil.cpu_count()} CPUs"), *measure(count)]
    print("| serving llava-shapes | |\n| --- | --- |")
    for name, value in rows:
        print(f"| {name} | {value} |")
    return 0


if __name__ == "__main__":
    run(main)
