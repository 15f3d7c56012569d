"""Measures what the capture costs on a whole request, in one process.

Flow: one model, one picture, one question -> rounds of plain sdpa generate, our engine (default views; everything
unreduced) and eager output_attentions=True, in random order -> thread CPU time -> medians of paired ratios with 95 %
bootstrap intervals -> docs/benchmarks/engine-<model>.json.
Example: python -m bench.engine llava-shapes --rounds 60
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration

from bench.parts.intervals import median, paired_ratio
from bench.parts.results import FOLDER, Figure, Result, machine, write
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_server.load.locate import locate
from llava_wire import Record
from servekit.paths import MODEL_STORE
from shapes.scenes import make_scene

QUESTION = "Describe the image."
BASE = "plain sdpa generate"


def ways(model: str, max_new_tokens: int) -> dict[str, Callable[[], int]]:
    """Name -> a callable that answers the question once and returns the number of tokens.

    Every way includes decoding and preprocessing the picture, as a user pays for it.
    """
    engine = Engine.load(MODEL_STORE / model, device="cpu")
    located = locate(MODEL_STORE / model)
    folder, settings = located.folder, located.settings
    options: dict[str, Any] = {"dtype": getattr(torch, settings.dtype), "local_files_only": True}
    plain = LlavaForConditionalGeneration.from_pretrained(folder, attn_implementation="sdpa", **options).eval()
    eager = LlavaForConditionalGeneration.from_pretrained(folder, attn_implementation="eager", **options).eval()
    processor = engine.loaded.processor
    buffer = io.BytesIO()
    make_scene(random.Random(5), "landscape").image.save(buffer, "PNG")
    data = buffer.getvalue()
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)

    def generate(network: Any, **extra: Any) -> int:
        inputs = processor(images=[Image.open(io.BytesIO(data)).convert("RGB")], text=[prompt], return_tensors="pt")
        with torch.inference_mode():
            result = network.generate(
                **inputs, max_new_tokens=max_new_tokens, do_sample=False, return_dict_in_generate=True, **extra
            )
        return result.sequences.shape[1] - inputs["input_ids"].shape[1]

    def capture(given: dict[str, Any]) -> int:
        options = {"check": [], **given, "max_new_tokens": max_new_tokens}
        [record] = engine.run([GenerateRequest.build(data, QUESTION, options)])
        assert isinstance(record, Record), record
        return len(record.tokens)

    return {
        BASE: lambda: generate(plain),
        "engine, default views": lambda: capture({}),
        "engine, everything unreduced": lambda: capture({"layers": "all", "heads": "all", "reduction": "none"}),
        "eager generate, output_attentions=True": lambda: generate(eager, output_attentions=True),
    }


def measure(runs: dict[str, Callable[[], int]], rounds: int) -> tuple[int, dict[str, list[float]]]:
    """Tokens of the answer, and CPU seconds of each way in each round; the order changes from round to round.

    Raises:
        RuntimeError: when the ways disagree about the answer's length.
    """
    order, rng = list(runs), random.Random(0)
    tokens = {name: run() for name, run in runs.items()}
    if len(set(tokens.values())) != 1:
        raise RuntimeError(f"tokens: got {tokens}, expected the same number from every way")
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        rng.shuffle(order)
        for name in order:
            # The engine opens pictures in another thread: the process's CPU time counts it too.
            begin = time.process_time()
            runs[name]()
            seconds[name].append(time.process_time() - begin)
        print(f"round {number + 1}/{rounds}", file=sys.stderr, end="\r")
    print(file=sys.stderr)
    return tokens[BASE], seconds


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when measured; 2 for bad arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "model", nargs="?", default="llava-shapes", help="a model of model_store (default llava-shapes)"
    )
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--out", type=Path, help="results file (default: docs/benchmarks/engine-<model>.json)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    runs = ways(given.model, given.max_new_tokens)
    torch.set_num_threads(1)  # loading follows the model's own settings
    tokens, seconds = measure(runs, given.rounds)
    rows = []
    for name, spent in seconds.items():
        rows.append(Figure.of(name, median([value * 1000 for value in spent]), "ms"))
        if name != BASE:
            rows.append(Figure.of(name, paired_ratio(spent, seconds[BASE]), "x plain", note=f"{given.rounds} rounds"))
    for row in rows:
        print(f"{row.name:<40} {row.value:8.3f} {row.unit:<8} [{row.low:.3f}, {row.high:.3f}]")
    what = (
        f"“{QUESTION}” on one picture, {tokens} tokens, from the file's bytes to the answer (engine: to the record); "
        "CPU time of the process."
    )
    settings = {"model": given.model, "rounds": given.rounds, "max_new_tokens": given.max_new_tokens}
    path = given.out or FOLDER / f"engine-{given.model}.json"
    write(path, Result(f"A whole request in one process: {given.model}", what, machine(), settings, rows, seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
