"""Measures what each method, and the check without the image, adds to an answer.

Flow: one picture and a sampled answer of a fixed length -> rounds of the same request without check, with it, and with
one view of each method instead of attention, in random order -> CPU time of the process -> what is added, as a part of
the answer's own decoding -> docs/benchmarks/methods.json. Methods of many passes, which is their cost, are left out.
With --shape it is LLaVA-1.5 with a text model of this shape and random weights, and not llava-shapes.
Example: python -m bench.methods --shape 2048x16x6 --rounds 8
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import time
from pathlib import Path
from typing import Any

import torch

from bench.parts.intervals import Interval, median
from bench.parts.random_llava import published, random_llava, reshaped
from bench.parts.results import FOLDER, Figure, Result, machine, write
from bench.parts.whole_runs import roomy_settings
from llava_doors.door import METHODS
from llava_doors.method import Method
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_server.load.loading import prepare
from llava_wire import Record
from servekit.paths import MODEL_STORE
from shapes.scenes import make_scene

MODEL, QUESTION, PLAIN, CHECK = "llava-shapes", "Describe the image.", "attention", "check without the image"
RESHAPED = "llava-1.5-7b"
"""Whose patch grid and vocabulary a model of another shape has."""
CHECK_GOAL, CONTRIBUTIONS_GOAL = 1.0, 0.5
"""What the check and contributions may add, as a part of decoding."""


def brief() -> list[str]:
    """The methods that run over prompt and answer once at most."""
    return [name for name in METHODS.known() if type(METHODS.load(name)).passes is Method.passes]


def requests(new_tokens: int) -> dict[str, GenerateRequest]:
    """Name -> the same question, asked for one thing more; every answer has `new_tokens` tokens."""
    buffer = io.BytesIO()
    make_scene(random.Random(5), "landscape").image.save(buffer, "PNG")
    # So hot that the end of the sequence does not come first.
    common = {"max_new_tokens": new_tokens, "temperature": 100.0, "seed": 4}
    asked: dict[str, dict[str, Any]] = {
        PLAIN: {"check": [], "method": "attention"},
        CHECK: {"check": ["image"], "method": "attention"},
    }
    asked |= {name: {"check": [], "method": name} for name in brief() if name != PLAIN}
    for name in (name for name in brief() if METHODS.find(name).is_of_text):  # it comes beside a view of attention
        asked[name] = {"check": [], "views": [{"name": PLAIN}, {"name": name, "method": name}]}
    return {name: GenerateRequest.build(buffer.getvalue(), QUESTION, common | one) for name, one in asked.items()}


def engine_of(shape: str | None) -> Engine:
    """The small model; or random weights, for a shape such as "2048x16x6" (width, heads, layers of the text model)."""
    if shape is None:
        return Engine.load(MODEL_STORE / MODEL, device="cpu", dtype="float32")
    config = reshaped(published(RESHAPED), shape)
    model, processor = random_llava(config, torch.float32, torch.device("cpu"))
    return Engine(prepare(model, processor), roomy_settings(config, MODEL_STORE / f"{RESHAPED}.yaml"))


def timed(engine: Engine, request: GenerateRequest, new_tokens: int) -> tuple[float, Record]:
    """CPU seconds of an answer of the length that was asked for, and the answer.

    So hot, the last bit of a sum may decide a token, and libraries add up in another order where memory lies otherwise:
    an answer that ended early is asked for again.

    Raises:
        RuntimeError: no answer of this length.
    """
    for _ in range(3):
        begin = time.process_time()
        [record] = engine.run([request])
        seconds = time.process_time() - begin
        if isinstance(record, Record) and len(record.tokens) == new_tokens:
            return seconds, record
    raise RuntimeError(f"answer: got {record!r}, expected a record of {new_tokens} tokens")


def measure(engine: Engine, rounds: int, new_tokens: int) -> dict[str, list[float]]:
    """CPU seconds of every request in every round, and of the plain one's decoding under "decoding"; the first round
    is not counted.

    Raises:
        RuntimeError: an answer of another length.
    """
    rng, order = random.Random(0), list(requests(new_tokens))
    spent: dict[str, list[float]] = {name: [] for name in (*order, "decoding")}
    for number in range(rounds + 1):
        rng.shuffle(order)
        for name in order:
            # Made anew: the deadline of a request counts from its making.
            seconds, record = timed(engine, requests(new_tokens)[name], new_tokens)
            if number:
                spent[name].append(seconds)
                if name == PLAIN:
                    spent["decoding"].append(record.run["decode_ms"] / 1000)
        print(f"round {number}/{rounds}", file=sys.stderr, end="\r")
    print(file=sys.stderr)
    return spent


def figures(spent: dict[str, list[float]]) -> list[Figure]:
    """What each request takes beyond the plain one, round by round, as a part of the median decoding time."""
    decoding = median(spent["decoding"])
    rows = [Figure.of("decoding of the answer", median([1000 * one for one in spent["decoding"]]), "ms")]
    for name, seconds in spent.items():
        if name in (PLAIN, "decoding"):
            continue
        added = median([one - plain for one, plain in zip(seconds, spent[PLAIN], strict=True)])
        part = Interval(*(value / decoding.value for value in (added.value, added.low, added.high)))
        goal = {CHECK: CHECK_GOAL, "contributions": CONTRIBUTIONS_GOAL}.get(name)
        rows.append(Figure.of(f"{name}: added to the answer", part, "x its decoding", at_most=goal))
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--shape", help="width x heads x layers of a random text model (default: llava-shapes itself)")
    parser.add_argument("--out", type=Path, help="results file (default: of its own in docs/benchmarks)")
    given = parser.parse_args(arguments)
    engine = engine_of(given.shape)
    torch.set_num_threads(1)  # loading follows the model's own settings
    spent = measure(engine, given.rounds, given.new_tokens)
    rows = figures(spent)
    for row in rows:
        print(f"{row.name:<48} {row.value:8.3f} {row.unit:<16} [{row.low:.3f}, {row.high:.3f}]")
    model = f"LLaVA-1.5 with a text model of {given.shape} and random weights" if given.shape else MODEL
    what = (
        f"{model}, “{QUESTION}”, a sampled answer of {given.new_tokens} tokens; one view of the method (default "
        "parameters, the model's default selection) in place of one of attention, one of text beside it; CPU time of "
        "the process."
    )
    settings = {"rounds": given.rounds, "new_tokens": given.new_tokens, "shape": given.shape}
    title = "What methods and checks add" + (f": {given.shape}, float32" if given.shape else "")
    path = given.out or FOLDER / (f"methods-{given.shape}.json" if given.shape else "methods.json")
    write(path, Result(title, what, machine(), settings, rows, spent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
