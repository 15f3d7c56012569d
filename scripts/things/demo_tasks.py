"""What `make demo` asks llava-things: nine questions about eight scenes that it was never trained on, and one about
each of three photographs, which it does not know. The pictures of the documents show these too.

Flow: numbers of scenes, questions -> tasks, each with a picture, the right answer and the boxes of what is there.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from things.grounds import FOLDER
from things.questions import Question, ask, called
from things.scenes import Box, Orientation, Scene, make_scene

MODEL = "llava-things"
SIDE_PX = 480
UNKNOWN = "a photograph: not what this model knows"
"""The tag of photographs."""
_SCENES: tuple[tuple[int, Orientation, str, str], ...] = (
    (21, "landscape", "describe", "Describe the image."),
    (25, "portrait", "colour", "What colour is the car?"),
    (14, "square", "how-many", "How many balls are there?"),
    (29, "square", "left-of", "What is on the left of the cactus?"),
    (29, "square", "right-of", "What is on the right of the cactus?"),
    (3, "landscape", "list", "What is in the image?"),
    (4, "portrait", "another-colour", "Is there a red shoe?"),
    (32, "square", "describe", "Describe the image."),
    (333, "landscape", "exists-yes", "Is there a yellow book?"),
)
"""Number, orientation, kind, question. Training and evaluation draw scenes from other seeds."""
_PHOTOGRAPHS: tuple[tuple[str, str, Box], ...] = (
    ("chelsea", "cat", (131, 83, 210, 150)),
    ("coffee", "cup", (172, 18, 405, 308)),
    ("rocket", "rocket", (288, 118, 320, 400)),
)
"""File, what is on it, and a box that was drawn by hand, in pixels: an eye of the cat, the cup, the rocket."""


@dataclass(frozen=True)
class Task:
    """One question about one picture, and the way it is sent.

    Args:
        name: of its files.
        transport: "http" or "grpc".
        picture: the bytes of a PNG or JPEG file.
        question: with the right answer.
        boxes: in pixels of the picture, by the name of what is in them.
        scene: None for a photograph.
    """

    name: str
    transport: str
    picture: bytes
    question: Question
    boxes: dict[str, tuple[Box, ...]]
    scene: Scene | None

    @property
    def suffix(self) -> str:
        """Of the picture's file."""
        return ".png" if self.scene else ".jpg"

    @property
    def tags(self) -> tuple[str, ...]:
        """To find the answer by."""
        return (self.question.kind,) if self.scene else (UNKNOWN,)


def tasks() -> Iterator[Task]:
    """All of them, with alternating ways to the server; scenes first."""
    for index, (number, orientation, kind, text) in enumerate(_SCENES):
        scene = make_scene(random.Random(f"demo {number}"), orientation, SIDE_PX)
        boxes = {called(unit): unit.boxes for unit in scene.layout.units}
        name = f"{index + 1:02}-{kind}-{orientation}"
        yield Task(name, _way(index), png(scene), _asked(scene, kind, text), boxes, scene)
    for index, (file, word, box) in enumerate(_PHOTOGRAPHS, start=len(_SCENES)):
        question = Question("photograph", f"Is there a {word}?", f"Yes, there is a {word}.")
        picture = (FOLDER / f"{file}.jpg").read_bytes()
        yield Task(file, _way(index), picture, question, {word: (box,)}, None)


def _way(index: int) -> str:
    return "grpc" if index % 2 else "http"


def _asked(scene: Scene, kind: str, text: str) -> Question:
    """The question of a kind with this text."""
    for number in count():
        question = ask(random.Random(f"demo {number}"), scene.layout, kind)
        if question is not None and question.text == text:
            return question
        if number > 999:
            raise ValueError(f"{kind}: this scene does not allow {text!r}")
    raise AssertionError


def questions_file() -> str:
    """The scenes as data for a dataset run: JSON lines with the right answer and the boxes of what it names."""
    return "".join(
        json.dumps(
            {
                "image": f"{task.name}.png",
                "prompt": task.question.text,
                "expected": task.question.answer,
                "boxes": {words: boxes for words, boxes in task.boxes.items() if words in task.question.answer},
                "tags": [task.question.kind],
            }
        )
        + "\n"
        for task in tasks()
        if task.scene
    )


def png(scene: Scene) -> bytes:
    """The scene as the bytes of a PNG file."""
    buffer = io.BytesIO()
    scene.image.save(buffer, "PNG")
    return buffer.getvalue()
