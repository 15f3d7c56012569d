"""Measures the small LLaVA on held-out scenes: exact match, and where its attention lands, with 95 % intervals.

Heads are chosen by role on validation scenes and frozen; every figure is from test scenes. Neither are training scenes.

Example:
    python -m shapes.evaluate model_store/llava-shapes --out model_store/llava-shapes/evaluation.json
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers: nothing is ever fetched

import torch
import transformers

from shapes.metrics import choose_heads, controls, exact_match, pointing_game
from shapes.sightings import Witness, held_out

VALIDATION_SEED = 20_777
TEST_SEED = 20_888


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of the model")
    parser.add_argument("--out", type=Path, help="JSON file for the figures; stdout where absent")
    parser.add_argument("--validation", type=int, default=150, metavar="N", help="scenes for choosing heads")
    parser.add_argument("--test", type=int, default=300, metavar="N", help="scenes for the figures")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def measure(options: argparse.Namespace) -> dict[str, object]:
    witness = Witness(options.model)
    say("validation scenes")
    seen_answers, seen = witness.look(held_out(VALIDATION_SEED, options.validation), say)
    heads = choose_heads(seen)
    say(f"heads: {heads}; test scenes")
    answers, sightings = witness.look(held_out(TEST_SEED, options.test), say)
    return {
        "model": options.model.name,
        "computed in": "float32, CPU, eager attention",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "scenes": {
            "validation": {"seed": VALIDATION_SEED, "count": options.validation, "questions": len(seen_answers)},
            "test": {"seed": TEST_SEED, "count": options.test, "questions": len(answers)},
        },
        "heads": {role: {"layer": layer, "head": head} for role, (layer, head) in heads.items()},
        "exact match": {"validation": exact_match(seen_answers), "test": exact_match(answers)},
        "pointing game": {"validation": pointing_game(seen, heads), "test": pointing_game(sightings, heads)},
        "controls, test": controls(sightings, heads),
    }


def main() -> int:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    text = json.dumps(measure(options), indent=1)
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text + "\n", encoding="utf-8")
        print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
