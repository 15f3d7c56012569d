"""What the demo asks: enough of every kind, reproducibly."""

from __future__ import annotations

from shapes import demo_tasks


def test_nine_questions_over_both_ways_on_every_orientation() -> None:
    tasks = list(demo_tasks.tasks())
    assert len(tasks) >= 8
    assert {task.transport for task in tasks} == {"http", "grpc"}
    for kinds in ({"describe"}, {"exists-yes", "exists-no"}, {"colour-of"}):
        assert {task.question.kind for task in tasks} >= kinds
    sizes = [task.scene.image.size for task in tasks]
    for shape in (lambda w, h: w > h, lambda w, h: w < h, lambda w, h: w == h):
        assert sum(shape(*size) for size in sizes) == 3
    described = [task.scene.image.size for task in tasks if task.question.kind == "describe"]
    assert len({(w > h) - (w < h) for w, h in described}) == 3


def test_the_same_pictures_and_questions_every_time() -> None:
    one, again = list(demo_tasks.tasks()), list(demo_tasks.tasks())
    assert [task.question for task in one] == [task.question for task in again]
    assert demo_tasks.picture(one[3].scene) == demo_tasks.picture(again[3].scene)
