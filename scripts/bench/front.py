"""Measures what the front costs a lone request: the same request to the front and to TorchServe behind it, in turns.

Flow: a real server -> one connection each to the front and to TorchServe, over HTTP and gRPC -> in random order one
request after another that the worker answers without its model -> differences, round by round -> front.json.
Example: python -m bench.front --rounds 400
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from build_mar import build

from bench.parts.intervals import median
from bench.parts.results import FOLDER, Figure, Result, machine, write
from llava_viewer.client.transport.messages import PREDICTIONS, messages
from servekit.cli import run, say
from servekit.front.settings import FrontSettings
from servekit.server import start_server
from servekit.watch.keeper import SETTINGS_FILE

MODEL = "llava-shapes"
WAYS = ("HTTP", "gRPC")
PLACES = ("front", "TorchServe")
TARGET_MS = 2.0
_WARM = 50


def over_http(port: int, key: str) -> Callable[[], None]:
    """A request over a connection that stays open, as clients' do."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def ask() -> None:
        connection.request("POST", f"/predictions/{MODEL}", b'{"ready": true}', headers)
        reply = connection.getresponse()
        body = reply.read()
        assert reply.status == 200, body

    return ask


def over_grpc(port: int, key: str) -> Callable[[], None]:
    """The same over gRPC."""
    made = messages()
    call = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]).unary_unary(
        PREDICTIONS,
        request_serializer=made.PredictionsRequest.SerializeToString,
        response_deserializer=made.PredictionResponse.FromString,
    )
    request = made.PredictionsRequest(model_name=MODEL, input={"ready": b"true"})

    def ask() -> None:
        call(request, metadata=(("authorization", f"Bearer {key}"),))

    return ask


def measure(rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each request, by way and place."""
    with start_server([MODEL], name="bench-front", ports="auto", progress=say) as server:
        front = FrontSettings.read(Path(server.state.scratch) / SETTINGS_FILE)
        key = str(json.loads(Path(front.key_file).read_text("utf-8"))["inference"]["key"])
        asks = {
            "HTTP, front": over_http(front.http, key),
            "HTTP, TorchServe": over_http(front.inner_http, key),
            "gRPC, front": over_grpc(front.grpc, key),
            "gRPC, TorchServe": over_grpc(front.inner_grpc, key),
        }
        taken: dict[str, list[float]] = {name: [] for name in asks}
        rng = random.Random(0)
        for number in range(-_WARM, rounds):
            for name in rng.sample(list(asks), len(asks)):
                begin = time.perf_counter()
                asks[name]()
                if number >= 0:
                    taken[name].append((time.perf_counter() - begin) * 1000)
    return taken


def figures(taken: dict[str, list[float]]) -> list[Figure]:
    """The rows of the table."""
    rows = []
    for way in WAYS:
        rows += [Figure.of(f"{way}, to {place}", median(taken[f"{way}, {place}"]), "ms") for place in PLACES]
        extra = [a - b for a, b in zip(*(taken[f"{way}, {place}"] for place in PLACES), strict=True)]
        rows.append(Figure.of(f"{way}: added by the front", median(extra), "ms", at_most=TARGET_MS))
    return rows


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=400, help="requests of each of the four kinds")
    parser.add_argument("--out", type=Path, default=FOLDER / "front.json", help="results file")
    given = parser.parse_args()
    build(MODEL)
    taken: dict[str, Any] = measure(given.rounds)
    what = (
        "One client, one request at a time, answered by the worker without its model; client, front, Java and worker "
        "share the cores. Differences are taken round by round."
    )
    result = Result("The front", what, machine(), {"model": MODEL, "rounds": given.rounds}, figures(taken), taken)
    write(given.out, result)
    for figure in result.figures:
        print(f"{figure.name:<30} {figure.value:7.3f} {figure.unit} [{figure.low:.3f}, {figure.high:.3f}]")
    return 0


if __name__ == "__main__":
    run(main)
