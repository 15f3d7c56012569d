"""What a run's items cost without the run: the engine alone, or clients alone that ask a server.

Flow: a data file -> every item's image and prompt -> `Engine.answers` and `encode`, or as many threads of one client as
requests are to be in flight -> the seconds that it took, as JSON on stdout. Nothing is kept.
Example: python -m bench.dataset.plain out/items.jsonl engine llava-shapes
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints {"items", "seconds"}."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="JSON lines of image and prompt")
    ways = parser.add_subparsers(dest="way", required=True)
    engine, server = ways.add_parser("engine"), ways.add_parser("server")
    for way in (engine, server):
        way.add_argument("model", help="of model_store")
    for name in ("url", "key_file"):
        server.add_argument(name)
    server.add_argument("in_flight", type=int)
    given = parser.parse_args(arguments)
    items = [json.loads(line) for line in given.data.read_text("utf-8").splitlines()]
    pairs = [(given.data.parent / item["image"], item["prompt"]) for item in items]
    seconds = _engine(pairs, given.model) if given.way == "engine" else _clients(pairs, given)
    print(json.dumps({"items": len(pairs), "seconds": seconds}))
    return 0


def _engine(pairs: Sequence[tuple[Path, str]], model: str) -> float:
    from llava_server.ask.request import GenerateRequest
    from llava_server.engine import Engine
    from llava_wire import Record, encode
    from servekit.paths import MODEL_STORE

    engine = Engine.load(MODEL_STORE / model, device="cpu")

    def requests() -> Iterator[GenerateRequest]:
        for image, prompt in pairs:
            yield GenerateRequest.build(image.read_bytes(), prompt)

    begin = time.perf_counter()
    for record in engine.answers(requests()):
        if not isinstance(record, Record):
            raise record
        encode(record)
    return time.perf_counter() - begin


def _clients(pairs: Sequence[tuple[Path, str]], given: argparse.Namespace) -> float:
    from llava_viewer.client import Client

    asked = Client.http(given.url, model=given.model, token=Path(given.key_file), retry_s=60)
    with asked as client, ThreadPoolExecutor(given.in_flight) as pool:
        begin = time.perf_counter()
        for _ in pool.map(lambda pair: client.predict_bytes(pair[0].read_bytes(), pair[1]), pairs):
            pass
        return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
