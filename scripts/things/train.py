"""Trains llava-things from nothing: one command, minutes on a GPU, days on two cores; can be interrupted.

Which heads point differs from training to training: the head sets of model_store/llava-things.yaml are those of the
shipped weights, so a new model goes elsewhere first. The shipped weights learnt stages 0 and 1 from questions that
rarely named a thing's own colour, before there was a stage 2 (their card says what came of it). On an H100 2,500 steps
with 38 such questions each (5e-4) turned their No to Yes for every coloured thing, and compared nothing; stage 2 as it
stands has some 150 a step and was not run yet.

Examples:
    python -m things.train --out out/llava-things --device cuda --workers 14
    python -m things.train --weights model_store/llava-things --first "stage 2" --seed 1 --scenes 30000 --device cuda
"""

from __future__ import annotations

import sys

import torch

from teach.command import main
from teach.stages import StageSettings
from teach.training import Plan
from things.world import ThingsWorld

STAGES = (
    StageSettings("stage 0", steps=2500, batch=128, learning_rate=1.5e-3, warm_up=100),
    StageSettings("stage 1", 4500, 128, 1e-3, 100, vision_factor=0.3, look_up_weight=2.0, turns=6),
    StageSettings("stage 2", 4500, 128, 1e-3, 100, vision_factor=0.3, look_up_weight=2.0, turns=6),
)
PLAN = Plan(STAGES, scenes=60_000, device="cuda" if torch.cuda.is_available() else "cpu")

if __name__ == "__main__":
    sys.exit(main(ThingsWorld(), PLAN, threads=2, description=__doc__))
