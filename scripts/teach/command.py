"""The command line of a world's training: a world, its plan, what the caller changes -> a model in a folder."""

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

from teach.training import Plan, train
from teach.world import World


def main(world: World, plan: Plan, threads: int, description: str | None, arguments: list[str] | None = None) -> int:
    """Trains a world's model.

    Args:
        plan: what is done where the command line says nothing else.
        threads: likewise, of the CPU.
        description: for --help.
        arguments: those of the process where None.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add, stages = parser.add_argument, [one.name for one in plan.stages]
    add("--out", type=Path, default=Path("out", world.name), help="folder of the model")
    add("--work", type=Path, default=Path("checkpoints", world.name), help="scenes and checkpoints")
    add("--seed", type=int, default=plan.seed)
    add("--device", default=plan.device)
    add("--workers", type=int, default=plan.workers, help="processes that make scenes and batches")
    add("--threads", type=int, default=threads, help=f"of the CPU, per process that computes (now {threads})")
    add("--scenes", type=int, default=plan.scenes, help="training scenes, made once")
    add("--scale", type=float, default=1.0, help="share of every stage's steps, for a rehearsal")
    add("--batch", type=int, help="another batch size for every stage")
    add("--first", choices=stages, help="begin with this stage")
    add("--weights", type=Path, metavar="FOLDER", help="begin with a trained model: its weights and its tokenizer")
    add("--until", choices=stages, help="stop after this stage")
    options = parser.parse_args(arguments)
    if options.first and not options.weights:
        parser.error("--first: got it without --weights, expected what the stages before it made; name its folder")
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    log = options.work / "training.log"

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    asked = Plan(
        [replace(one, batch=options.batch or one.batch) for one in plan.stages],
        options.scenes,
        options.seed,
        options.device,
        options.workers,
        options.first,
        options.until,
        options.weights,
    )
    train(world, asked.scaled(options.scale), options.out, options.work, say)
    if options.out.is_dir():
        shutil.copy(log, options.out)
        print(options.out)
    return 0
