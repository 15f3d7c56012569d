"""Measures a small LLaVA on held-out scenes: exact match, and where its attention lands, with 95 % intervals.

Heads are chosen by role on validation scenes and frozen; every figure is from test scenes. Neither are training scenes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers: nothing is ever fetched

import torch
import transformers

from teach.figures import Figures
from teach.sightings import Item, Truth, look
from teach.witness import Witness

VALIDATION_SEED = 20_777
TEST_SEED = 20_888


@dataclass(frozen=True)
class Subject:
    """What a world is measured by: its scenes by seed and count, what it knows of them, and its figures."""

    held_out: Callable[[int, int], Sequence[Item[Any]]]
    truth: Truth
    figures: Figures


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def measure(subject: Subject, model: Path, validation: int, test: int) -> dict[str, object]:
    """All figures of a model.

    Args:
        model: its folder.
        validation, test: how many scenes of each.
    """
    witness, figures = Witness(model), subject.figures
    say("validation scenes")
    seen_answers, seen = look(witness, subject.held_out(VALIDATION_SEED, validation), subject.truth, say)
    heads = figures.choose_heads(seen)
    say(f"heads: {heads}; test scenes")
    answers, sightings = look(witness, subject.held_out(TEST_SEED, test), subject.truth, say)
    return {
        "model": model.name,
        "computed in": "float32, CPU, eager attention",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "scenes": {
            "validation": {"seed": VALIDATION_SEED, "count": validation, "questions": len(seen_answers)},
            "test": {"seed": TEST_SEED, "count": test, "questions": len(answers)},
        },
        "heads": {role: {"layer": layer, "head": head} for role, (layer, head) in heads.items()},
        "exact match": {"validation": figures.exact_match(seen_answers), "test": figures.exact_match(answers)},
        "pointing game": {
            "validation": figures.pointing_game(seen, heads),
            "test": figures.pointing_game(sightings, heads),
        },
        "controls, test": figures.controls(sightings, heads),
    }


def main(subject: Subject, description: str | None) -> int:
    """The command line of a world's evaluation."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of the model")
    parser.add_argument("--out", type=Path, help="JSON file for the figures; stdout where absent")
    parser.add_argument("--validation", type=int, default=150, metavar="N", help="scenes for choosing heads")
    parser.add_argument("--test", type=int, default=300, metavar="N", help="scenes for the figures")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    text = json.dumps(measure(subject, options.model, options.validation, options.test), indent=1)
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text + "\n", encoding="utf-8")
        print(options.out)
    return 0
