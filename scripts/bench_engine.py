"""Measures what the capture costs on a whole request, in one process, and prints ratios to plain generation.

Flow: one model, one picture, one question -> interleaved rounds of plain sdpa, capture (default views; everything
unreduced) and eager output_attentions=True -> thread CPU time per round -> medians of paired ratios with 95 % bootstrap
intervals -> a table on stdout and every raw number as JSON.
Example: scripts/bench_engine.py llava-shapes --rounds 40 --out docs/benchmarks/engine-llava-shapes.json
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration

from llava_server.engine import Engine, resolve
from llava_server.request import GenerateRequest
from llava_wire import Record
from shapes.scenes import make_scene

STORE = Path(__file__).resolve().parents[1] / "model_store"
QUESTION = "Describe the image."
BASE = "plain sdpa"


def ways(model: str, max_new_tokens: int) -> dict[str, Callable[[], int]]:
    """Name -> a callable that answers the question once and returns the number of tokens.

    Every way includes decoding and preprocessing the picture, as a user pays for it.
    """
    engine = Engine.load(STORE / model, device="cpu")
    folder, settings = resolve(STORE / model)
    options: dict[str, Any] = {"dtype": getattr(torch, settings.dtype), "local_files_only": True}
    plain = LlavaForConditionalGeneration.from_pretrained(folder, attn_implementation="sdpa", **options).eval()
    eager = LlavaForConditionalGeneration.from_pretrained(folder, attn_implementation="eager", **options).eval()
    processor = engine.loaded.processor
    buffer = io.BytesIO()
    make_scene(random.Random(5), "landscape").image.save(buffer, "PNG")
    data = buffer.getvalue()
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    everything = {"layers": "all", "heads": "all", "reduction": "none", "max_new_tokens": max_new_tokens}

    def generate(network: Any, **extra: Any) -> int:
        inputs = processor(images=[Image.open(io.BytesIO(data)).convert("RGB")], text=[prompt], return_tensors="pt")
        with torch.inference_mode():
            result = network.generate(
                **inputs, max_new_tokens=max_new_tokens, do_sample=False, return_dict_in_generate=True, **extra
            )
        return result.sequences.shape[1] - inputs["input_ids"].shape[1]

    def capture(given: dict[str, Any]) -> int:
        record = engine.run([GenerateRequest.build(data, QUESTION, given)])[0]
        assert isinstance(record, Record), record
        return len(record.tokens)

    return {
        BASE: lambda: generate(plain),
        "capture, default views": lambda: capture({"max_new_tokens": max_new_tokens}),
        "capture, everything unreduced": lambda: capture(everything),
        "eager, output_attentions=True": lambda: generate(eager, output_attentions=True),
    }


def measure(runs: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Thread CPU seconds of each way in each round; the order changes from round to round."""
    order, rng = list(runs), random.Random(0)
    tokens = {name: run() for name, run in runs.items()}
    if len(set(tokens.values())) != 1:
        raise RuntimeError(f"tokens: got {tokens}, allowed the same number from every way")
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        rng.shuffle(order)
        for name in order:
            begin = time.thread_time()
            runs[name]()
            seconds[name].append(time.thread_time() - begin)
        print(f"round {number + 1}/{rounds}", file=sys.stderr, end="\r")
    print(file=sys.stderr)
    return seconds


def ratio(values: list[float], base: list[float]) -> tuple[float, float, float]:
    """Median of paired ratios with its 95 % bootstrap interval."""
    paired = np.asarray(values) / np.asarray(base)
    draws = np.random.default_rng(0).choice(paired, (2000, len(paired)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(np.median(paired)), float(low), float(high)


def main() -> int:
    """Exit 0 when measured; 2 for bad arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "model", nargs="?", default="llava-shapes", help="a model of model_store (default llava-shapes)"
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--out", type=Path, help="where to keep the raw numbers as JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    seconds = measure(ways(given.model, given.max_new_tokens), given.rounds)
    table = {name: ratio(values, seconds[BASE]) for name, values in seconds.items()}
    for name, (middle, low, high) in table.items():
        spent = float(np.median(seconds[name])) * 1000
        print(f"{name:<32} {spent:8.1f} ms  x {middle:.3f}  95 % [{low:.3f}, {high:.3f}]")
    if given.out:
        document = {
            "model": given.model,
            "question": QUESTION,
            "rounds": given.rounds,
            "machine": f"{platform.machine()} ({torch.backends.cpu.get_cpu_capability()}), one thread",
            "torch": torch.__version__,
            "unit": "thread CPU seconds per request",
            "ratio_to_plain_sdpa": {name: [round(v, 4) for v in row] for name, row in table.items()},
            "seconds": {name: [round(v, 6) for v in row] for name, row in seconds.items()},
        }
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
