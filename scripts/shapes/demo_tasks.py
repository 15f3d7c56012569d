"""Nine questions about nine held-out scenes: what `make demo` asks, and what the pictures of the documents show.

Flow: a word as the seed -> scenes of three orientations -> a question about each.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from shapes.questions import Question, ask
from shapes.scenes import Orientation, Scene, make_scene

MODEL = "llava-shapes"
SEED = "demo"
"""A word: training and evaluation draw from numbers, so that no scene here was seen in training."""
SIDE_PX = 384
_ORIENTATIONS: tuple[Orientation, ...] = ("landscape", "portrait", "square")
KINDS = ("describe", "colour-of", "exists-yes", "exists-no", "describe", "colour-of", "shape-of", "where", "describe")


@dataclass(frozen=True)
class Task:
    """One question about one picture, and the way it is sent."""

    name: str
    transport: str
    scene: Scene
    question: Question


def tasks() -> Iterator[Task]:
    """Nine scenes, three of each orientation, with alternating ways to the server."""
    rng = random.Random(SEED)
    for number, kind in enumerate(KINDS):
        orientation = _ORIENTATIONS[number % len(_ORIENTATIONS)]
        question = None
        while question is None:
            scene = make_scene(rng, orientation, SIDE_PX)
            question = ask(rng, scene.layout, kind)
        transport = "grpc" if number % 2 else "http"
        yield Task(f"{number + 1:02}-{kind}-{orientation}", transport, scene, question)


def questions_file() -> str:
    """All nine as data for a dataset run: JSON lines with the right answer and the boxes of what is in the image."""
    return "".join(
        json.dumps(
            {
                "image": f"{task.name}.png",
                "prompt": task.question.text,
                "expected": task.question.answer,
                "boxes": {thing.name: thing.box for thing in task.scene.objects},
                "tags": [task.question.kind],
            }
        )
        + "\n"
        for task in tasks()
    )


def picture(scene: Scene) -> bytes:
    """The scene as the bytes of a PNG file."""
    buffer = io.BytesIO()
    scene.image.save(buffer, "PNG")
    return buffer.getvalue()
