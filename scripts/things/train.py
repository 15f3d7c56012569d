"""Trains llava-things from nothing: one command, minutes on a GPU, some hours on a few cores; can be interrupted.

Which heads point differs from training to training: the head sets of model_store/llava-things.yaml are those of the
shipped weights, so a new model goes elsewhere first.

Example:
    python -m things.train --out out/llava-things --device cuda --workers 14
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers: nothing is ever fetched
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # batches are made in processes of their own

import torch

from teach.stages import StageSettings
from teach.training import Plan, train
from things.world import ThingsWorld

STAGES = (
    StageSettings("stage 0", steps=2500, batch=128, learning_rate=1.5e-3, warm_up=100),
    StageSettings("stage 1", 4500, 128, 1e-3, 100, vision_factor=0.3, look_up_weight=2.0, turns=6),
)
SCENES = 60_000


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/llava-things"), help="folder of the model")
    parser.add_argument("--work", type=Path, default=Path("checkpoints/llava-things"), help="scenes and checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=0, help="processes that make scenes and batches")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU, per process that computes")
    parser.add_argument("--scenes", type=int, default=SCENES, help="training scenes, made once")
    parser.add_argument("--scale", type=float, default=1.0, help="share of every stage's steps, for a rehearsal")
    parser.add_argument("--batch", type=int, help="another batch size for every stage")
    parser.add_argument("--until", choices=[one.name for one in STAGES], help="stop after this stage")
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

    stages = [replace(one, batch=options.batch or one.batch) for one in STAGES]
    plan = Plan(stages, options.scenes, options.seed, options.device, options.workers, options.until)
    train(ThingsWorld(), plan.scaled(options.scale), options.out, options.work, say)
    if options.out.is_dir():
        shutil.copy(log, options.out)
        print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
