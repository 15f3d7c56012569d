"""Trains llava-things from nothing: one command, minutes on a GPU, days on two cores; can be interrupted.

Which heads point differs from training to training: the head sets of model_store/llava-things.yaml are those of the
shipped weights, so a new model goes elsewhere first.

Examples:
    python -m things.train --out out/llava-things --device cuda --workers 14
    python -m things.train --weights model_store/llava-things --first "stage 1" --seed 1 --out out/llava-things
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
)
PLAN = Plan(STAGES, scenes=60_000, device="cuda" if torch.cuda.is_available() else "cpu")

if __name__ == "__main__":
    sys.exit(main(ThingsWorld(), PLAN, threads=2, description=__doc__))
