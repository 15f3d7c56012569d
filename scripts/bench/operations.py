"""Counts the operations that capture adds: per layer of a decode step, and per layer once an answer has finished.

Flow: a small random text model (counts do not depend on widths) -> operations of one step and of `finish` in every way
-> differences to plain sdpa -> a results file.
Example: python -m bench.operations --device cuda
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import torch

from bench.parts.operations import operations
from bench.parts.results import FOLDER, Figure, Result, machine, write
from bench.parts.text_model import PromptCache, text_model
from bench.parts.ways import BASE, Answer, ways
from llava_server.attend.capture import register

LAYERS, HEADS, PROMPT = 6, 4, 616


def count(device: torch.device) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
    """Operations of one decode step, and of finishing an answer, per way."""
    model = text_model(f"256x{HEADS}x{LAYERS}", torch.bfloat16, device)
    filled = PromptCache(model, PROMPT - 1)
    steps, finishes = {}, {}
    for key, way in ways(LAYERS, HEADS).items():
        if way.question:
            continue
        answer = Answer(model, way, PROMPT, filled.start())
        place = PROMPT - 1

        def step(answer: Answer = answer) -> None:
            nonlocal place
            answer.forward(torch.tensor([[3]]).to(device), torch.tensor([[place]]).to(device))
            if place >= PROMPT:
                answer.stepped(place)
            place += 1

        answer.attach()
        step()  # the prompt's last token
        steps[key] = operations(step, device)
        answer.detach()
        finishes[key] = operations(answer.finish, device)
    return steps, finishes


@torch.no_grad()
def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default %(default)s)")
    parser.add_argument("--out", type=Path, help="results file (default: docs/benchmarks/operations.json)")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    register()
    steps, finishes = count(torch.device(given.device))
    titles = {key: way.title for key, way in ways(LAYERS, HEADS).items()}
    rows = []
    for key, counted in steps.items():
        if key == BASE:
            rows.append(Figure(f"{titles[key]}: one decode step", counted.total() / LAYERS, "per layer"))
            continue
        added = (counted.total() - steps[BASE].total()) / LAYERS
        rows.append(Figure(f"{titles[key]}: added to a decode step", added, "per layer"))
        if finishes[key]:
            once = finishes[key].total() / LAYERS
            rows.append(Figure(f"{titles[key]}: once per answer", once, "per layer", note="for all its tokens at once"))
    for row in rows:
        print(f"{row.name:<76} {row.value:8.2f} {row.unit}")
    what = (
        "Operations that do work: kernels and copies on a GPU; on the CPU those that reach PyTorch's dispatcher, "
        "without views and reservations."
    )
    raw = {f"step, {key}": dict(counted) for key, counted in steps.items()}
    raw |= {f"once per answer, {key}": dict(counted) for key, counted in finishes.items() if counted}
    name = "operations.json" if given.device == "cpu" else f"{given.device}-operations.json"
    result = Result("Operations added by capture", what, machine(given.device), {"layers": LAYERS}, rows, raw)
    write(given.out or FOLDER / name, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
