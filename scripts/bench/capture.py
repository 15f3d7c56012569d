"""Measures what capture adds to a decode step and to a prefill at LLaVA lengths, on random text models.

Flow: a random Llama -> pairs of two ways in random order (plain sdpa, our capture, eager output_attentions=True, hooks
that recompute q) -> thread CPU time -> medians of paired ratios with 95 % bootstrap intervals -> a results file.
Rows that capture computes after the last step are part of its cost, spread over the 64 steps of an answer.
Example: python -m bench.capture decode --shape 4096x32x4 --dtype bfloat16 --prompt 616 --ways default unreduced
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from bench.parts.attention import attention_pairs
from bench.parts.intervals import median, paired_ratio
from bench.parts.results import FOLDER, Figure, Result, machine, read, write
from bench.parts.text_model import text_model
from bench.parts.timing import ANSWER_STEPS, Series, decode_pairs, prefill_pairs
from bench.parts.ways import BASE, ways
from llava_server.attend.capture import register

PHASES = {
    "decode": "one decode step",
    "prefill": "prefill and its rows",
    "attention": "attention of one layer at prefill, alone",
}
TARGETS = {
    "decode": {"default": 1.02, "reduced": 1.05, "unreduced": 1.05},
    "prefill": {"unreduced": 1.03, "question": 1.03},
    "attention": {},
}
AGAINST = "unreduced"
_WHY_NOT_FASTER = (
    "capture takes as long as plain sdpa, so there is nothing left to gain in it; products with weights, the same in "
    "both ways, take most of a prefill on one core, and the table of one layer's attention alone has the rest"
)
_FEWEST = 3
"""Pairs below which a resampled interval means nothing."""
_ALONE = ["idle", "default", "unreduced", "question", "eager"]
FASTER = 3.5


def compared(phase: str, way: str) -> str:
    """The baseline of a way: plain sdpa; over a whole prompt, eager is compared with our capture of everything."""
    return AGAINST if phase != "decode" and way == "eager" else BASE


def figures(phase: str, series: dict[str, Series], titles: dict[str, str], prompt: int) -> list[Figure]:
    """The rows of the table.

    Args:
        phase: one of `PHASES`.
        series: way -> its pairs.
        titles: way -> its name.
        prompt: tokens of the prompt.
    """
    rows = []
    for way, pairs in series.items():
        base = compared(phase, way)
        ratio = paired_ratio(pairs.way, pairs.base, pairs.afterwards, ANSWER_STEPS)
        long, note = prompt > 2000, f"{len(pairs.way)} pair{'' if len(pairs.way) == 1 else 's'}"
        if base == AGAINST:
            goal = FASTER if phase == "prefill" and long else None
            row = Figure.of(titles[way], ratio, "x everything captured", at_least=goal, note=note)
            row = replace(row, note=f"{note}; {_WHY_NOT_FASTER}") if row.met is False else row
        else:
            # The target for prefill is set at the long prompt.
            goal = TARGETS[phase].get(way) if phase == "decode" or long else None
            row = Figure.of(titles[way], ratio, "x plain sdpa", at_most=goal, note=note)
        if len(pairs.way) < _FEWEST:
            row = replace(row, low=None, high=None, note=f"too few for an interval: {row.note}")
        rows.append(row)
    plain = [value * 1000 for way, pairs in series.items() if compared(phase, way) == BASE for value in pairs.base]
    if plain:
        rows.insert(0, Figure.of(titles[BASE], median(plain), "ms"))
    return rows


def earlier(path: Path, settings: dict[str, Any], here: dict[str, Any]) -> dict[str, Series]:
    """The pairs of an earlier run with the same settings on the same machine.

    Raises:
        ValueError: when they are of another kind.
    """
    result = read(path) if path.is_file() else None
    if result is None:
        return {}
    if result.machine != here or result.settings != settings:
        raise ValueError(f"--add: got {path.name} of another machine or settings, expected the same ones; leave it out")
    return {way: Series(**numbers) for way, numbers in result.raw.items()}


@torch.inference_mode()
def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when measured; 2 for bad arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [way for way in ways(2, 2) if way != BASE]
    parser.add_argument("phase", choices=PHASES)
    parser.add_argument("--shape", default="2048x16x6", help="width x heads x layers (default %(default)s)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default %(default)s)")
    parser.add_argument("--prompt", type=int, default=616, help="tokens (default 616, LLaVA-1.5; LLaVA-NeXT: 2920)")
    parser.add_argument("--ways", nargs="+", choices=known, metavar="WAY", help=f"which of {known} (default: all)")
    parser.add_argument("--pairs", type=int, default=192, help="pairs of each way (default %(default)s)")
    parser.add_argument("--add", action="store_true", help="add to the pairs of the file instead of replacing it")
    parser.add_argument("--out", type=Path, help="results file (default: one per phase, shape, dtype and prompt)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    register()
    name = f"{given.phase}-{given.shape}-{given.dtype}-{given.prompt}.json"
    path = given.out or FOLDER / (name if given.device == "cpu" else f"{given.device}-{name}")
    settings = {key: getattr(given, key) for key in ("phase", "shape", "dtype", "device", "prompt")}
    here = machine(given.device)
    try:
        series = earlier(path, settings, here) if given.add else {}
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    shape = given.shape
    if given.phase == "attention":
        shape = f"{shape.rpartition('x')[0]}x1"
    model = text_model(shape, getattr(torch, given.dtype), torch.device(given.device))
    every = ways(model.config.num_hidden_layers, model.config.num_attention_heads)
    measure = {"decode": decode_pairs, "prefill": prefill_pairs, "attention": attention_pairs}[given.phase]
    # Question rows are captured at prefill; a decode step knows nothing of them.
    whole = {"decode": [way for way in known if not every[way].question], "prefill": known, "attention": _ALONE}
    for way in given.ways or whole[given.phase]:
        print(f"{way}: {given.pairs} pairs", file=sys.stderr)
        base = every[compared(given.phase, way)]
        # Another order for pairs that are added.
        rng = random.Random(len(series[way].way) if way in series else 0)
        new, old = measure(model, base, every[way], given.prompt, given.pairs, rng), series.get(way, Series())
        series[way] = Series(old.base + new.base, old.way + new.way, old.afterwards + new.afterwards)
    ordered = {way: series[way] for way in every if way in series}
    rows = figures(given.phase, ordered, {key: way.title for key, way in every.items()}, given.prompt)
    for row in rows:
        interval = "" if row.low is None else f"[{row.low:.3f}, {row.high:.3f}]"
        print(f"{row.name:<48} {row.value:8.3f} {row.unit:<22} {interval:<16} {row.note}")
    title = f"{PHASES[given.phase].capitalize()}: {given.shape}, {given.dtype}, {given.prompt:,} tokens"
    clock = "CPU time of the thread" if given.device == "cpu" else "time between CUDA events"
    what = (
        f"Random text model, width x heads x layers {given.shape}; {clock}. Both ways of a pair have the same "
        "content in caches of their own; intervals are over pairs, and whole runs differ by a little more."
    )
    write(path, Result(title, what, here, settings, rows, {way: asdict(pairs) for way, pairs in ordered.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
