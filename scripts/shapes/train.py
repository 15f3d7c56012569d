"""Trains the small LLaVA of the tests from nothing: one command, one thread, one to two hours; can be interrupted.

Which heads point differs from training to training: the head sets of model_store/llava-shapes.yaml are those of the
shipped weights, so a new model goes elsewhere first.

Example:
    python -m shapes.train --out out/llava-shapes
"""

from __future__ import annotations

import sys

from shapes.world import ShapesWorld
from teach.command import main
from teach.stages import StageSettings
from teach.training import Plan

STAGES = (
    StageSettings("stage 0", steps=1200, batch=64, learning_rate=1.5e-3, warm_up=100, ground_weight=0.3),
    StageSettings("stage 1", 1500, 32, 1e-3, 100, vision_factor=0.3, look_up_weight=3.0, turns=5),
    StageSettings("stage 2", 1000, 32, 6e-4, 50, vision_factor=0.3, look_up_weight=2.0, turns=5),
)
PLAN = Plan(STAGES, scenes=24_000)

if __name__ == "__main__":
    sys.exit(main(ShapesWorld(), PLAN, threads=1, description=__doc__))
