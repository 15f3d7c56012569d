"""Measures the memory of one answer in every way: its peak, what it holds at the last step, what is left at the end.

Flow: one fresh process per way -> prefill and 64 decode steps on a random text model -> bytes -> a results file.
Needs Linux on the CPU (/proc). Example: python -m bench.memory --shape 4096x32x4 --dtype bfloat16 --prompt 616
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from bench.parts.footprint import Footprint, footprint
from bench.parts.results import FOLDER, Figure, Result, machine, write
from bench.parts.text_model import text_model
from bench.parts.ways import BASE, ways
from llava_server.attend.capture import register
from servekit.paths import with_sources

STEPS = 64
REFERENCE = "eager"
SHARE = 0.01


def figures(found: dict[str, Footprint], titles: dict[str, str]) -> list[Figure]:
    """The rows of the table."""
    reference, rows = found[REFERENCE], []
    for way, bytes_ in found.items():
        goal = SHARE if way in ("default", "reduced") else None
        share = bytes_.retained / reference.retained
        note = f"{bytes_.retained / 1e6:,.2f} MB"
        if way not in (BASE, REFERENCE):
            rows.append(Figure(f"{titles[way]}: left at the end", share, "x eager's", None, None, goal, None, note))
        held = f"{bytes_.held / reference.held:.4f} of eager's"
        rows.append(Figure(f"{titles[way]}: held at the last step", bytes_.held / 1e6, "MB", note=held))
        rows.append(Figure(f"{titles[way]}: peak beside the weights", bytes_.peak / 1e6, "MB", note="cache included"))
    return rows


@torch.inference_mode()
def child(shape: str, dtype: str, device: str, prompt: int, steps: int, way: str) -> Footprint:
    """Measures one way in this process."""
    torch.set_num_threads(1)
    register()
    model = text_model(shape, getattr(torch, dtype), torch.device(device))
    every = ways(model.config.num_hidden_layers, model.config.num_attention_heads)
    return footprint(model, every[way], prompt, steps)


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when measured; 1 when a process failed; 2 for bad arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [way for way, facts in ways(2, 2).items() if not facts.question]
    parser.add_argument("--shape", default="2048x16x6", help="width x heads x layers (default %(default)s)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default %(default)s)")
    parser.add_argument("--prompt", type=int, default=616, help="tokens of the prompt (default %(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="decode steps (default %(default)s)")
    parser.add_argument("--ways", nargs="+", choices=known, metavar="WAY", help=f"some of {known} besides eager")
    parser.add_argument("--out", type=Path, help="results file (default: one per shape, dtype and prompt)")
    parser.add_argument("--child", choices=known, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    options = {name: getattr(given, name) for name in ("shape", "dtype", "device", "prompt", "steps")}
    if given.child:
        print(json.dumps(dataclasses.asdict(child(**options, way=given.child))))
        return 0
    found, titles = {}, {key: way.title for key, way in ways(2, 2).items()}
    for way in known:
        if given.ways and way not in (*given.ways, REFERENCE):
            continue
        print(f"measuring {titles[way]}", file=sys.stderr)
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        process = subprocess.run(
            [sys.executable, "-m", "bench.memory", *words, "--child", way],
            env=with_sources(os.environ),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if process.returncode:
            print(f"error: {way}: got exit status {process.returncode}, expected 0", file=sys.stderr)
            return 1
        found[way] = Footprint(**json.loads(process.stdout))
    rows = figures(found, titles)
    for row in rows:
        print(f"{row.name:<76} {row.value:12.4f} {row.unit:<10} {row.note}")
    name = f"memory-{given.shape}-{given.dtype}-{given.prompt}.json"
    path = given.out or FOLDER / (name if given.device == "cpu" else f"{given.device}-{name}")
    title = f"Memory of one answer: {given.shape}, {given.dtype}, {given.prompt:,} + {given.steps} tokens"
    what = "A fresh process per way; peak: high-water mark of resident memory (GPU: of allocated memory)."
    raw = {way: dataclasses.asdict(bytes_) for way, bytes_ in found.items()}
    write(path, Result(title, what, machine(given.device), options, rows, raw))
    return 0


if __name__ == "__main__":
    sys.exit(main())
