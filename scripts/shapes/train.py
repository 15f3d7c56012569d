"""Trains the small LLaVA that ships with the project, from nothing: one command, one thread, one to two hours.

Which heads point differs from training to training: the head sets of model_store/llava-shapes.yaml are those of the
shipped weights, so a new model goes elsewhere first.

Example:
    python -m shapes.train --out out/llava-shapes
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers: nothing is ever fetched

import torch

from shapes.training import train


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/llava-shapes"), help="folder of the model")
    parser.add_argument("--work", type=Path, default=Path("checkpoints/llava-shapes"), help="scenes and checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="the shipped weights were made with 1")
    parser.add_argument("--scenes", type=int, default=24_000, help="training scenes, made once")
    parser.add_argument("--scale", type=float, default=1.0, help="share of every stage's steps, for a rehearsal")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    log = options.work / "training.log"

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    train(options.out, options.work, options.seed, options.scenes, say, options.scale)
    shutil.copy(log, options.out)
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
