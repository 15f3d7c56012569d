"""What the demo asks: enough of every kind, reproducibly, with the truth about every image."""

from __future__ import annotations

import io
import json

from PIL import Image

from things import demo_tasks

TASKS = list(demo_tasks.tasks())
SCENES = [task for task in TASKS if task.scene]
PHOTOGRAPHS = [task for task in TASKS if not task.scene]


def size(task: demo_tasks.Task) -> tuple[int, int]:
    return Image.open(io.BytesIO(task.picture)).size


def test_questions_over_both_ways_on_every_orientation() -> None:
    assert len({task.name for task in TASKS}) == len(TASKS)
    assert len(SCENES) >= 8
    assert {task.transport for task in TASKS} == {"http", "grpc"}
    assert {task.question.kind for task in SCENES} >= {"describe", "exists-yes", "another-colour", "colour", "how-many"}
    for shape in (lambda w, h: w > h, lambda w, h: w < h, lambda w, h: w == h):
        assert sum(shape(*size(task)) for task in SCENES) >= 2


def test_two_questions_are_about_one_image() -> None:
    assert len({task.picture for task in SCENES}) == len(SCENES) - 1


def test_boxes_lie_on_their_image() -> None:
    for task in TASKS:
        width, height = size(task)
        assert task.boxes
        for boxes in task.boxes.values():
            for x0, y0, x1, y1 in boxes:
                assert 0 <= x0 < x1 <= width
                assert 0 <= y0 < y1 <= height


def test_photographs_are_told_apart() -> None:
    assert len(PHOTOGRAPHS) == 3
    for task in PHOTOGRAPHS:
        assert task.tags == (demo_tasks.UNKNOWN,)
        assert size(task)[0] > 400


def test_the_file_of_questions_is_about_the_scenes() -> None:
    rows = [json.loads(line) for line in demo_tasks.questions_file().splitlines()]
    assert [row["image"] for row in rows] == [f"{task.name}.png" for task in SCENES]
    assert [row["expected"] for row in rows] == [task.question.answer for task in SCENES]
    assert all(task.question.kind in row["tags"] for row, task in zip(rows, SCENES, strict=True))


def test_the_same_images_and_questions_every_time() -> None:
    again = [(task.picture, task.question, task.boxes) for task in demo_tasks.tasks()]
    assert again == [(task.picture, task.question, task.boxes) for task in TASKS]
