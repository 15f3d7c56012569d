"""Metrics that ask the model, on the small model itself: the true box beats chance by each, on both baselines."""

from __future__ import annotations

import numpy as np
import pytest

from bench.known.asked import numbered, png
from bench.known.faith import (
    BASELINES,
    CHANCE,
    CONTROL,
    POINTING,
    TRUE_BOX,
    Remembering,
    asking,
    further_maps,
    judge,
    sign,
)
from bench.known.scores import words_of
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record

SCENES = 4
FEW = {"orders": 2, "sets": 6, "steps": 8}


@pytest.fixture(scope="module")
def found(engine: Engine) -> dict[str, dict[str, np.ndarray]]:
    """Map -> "metric, baseline" -> [word]: a shape word of the description of every scene."""
    random = np.random.default_rng(0)
    rows: dict[str, dict[str, list[float]]] = {}
    for _, item in numbered(SCENES):
        if item.question.kind != "describe":
            continue
        picture = png(item)
        options = {"views": [{"name": "contributions", "method": "contributions"}]}
        [record] = engine.run([GenerateRequest.build(picture, item.question.text, options)])
        assert isinstance(record, Record), record
        word = next(one for one in words_of(item, record) if one.group == "shape")
        box, grid = item.scene.objects[word.index].box, record.geometry.patch_rects()
        scorers = [Remembering(engine.scorer(record, word.step, picture, baseline=one)) for one in BASELINES]
        right = record.map(word.step)
        maps = {"contributions": right, **further_maps(right, grid, box, random)}
        for name, scores in judge(maps, grid, box, scorers, FEW).items():
            for key, value in scores.items():
                rows.setdefault(name, {}).setdefault(key, []).append(value)
    return {name: {key: np.array(values) for key, values in scores.items()} for name, scores in rows.items()}


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("name", asking())
def test_true_boxes_and_right_maps_beat_random_ones(name, baseline, found):
    key = f"{name}, {baseline}"
    box, right, chance, control = (found[one][key] for one in (TRUE_BOX, "contributions", CHANCE, CONTROL))
    print(f"{key}: true box {box.mean():.3f}, contributions {right.mean():.3f}, random map {chance.mean():.3f}, "
          f"random control {control.mean():.3f}, {len(box)} words")  # fmt: skip
    assert len(box) == SCENES
    for good in (box, right):
        assert sign(key) * good.mean() > sign(key) * control.mean() + 0.03
        assert sign(key) * good.mean() > sign(key) * chance.mean() + 0.03


def test_the_true_box_points_and_chance_does_not(found):
    assert found[TRUE_BOX][POINTING].mean() > 0.95
    assert found["contributions"][POINTING].mean() >= 3 / 4
    assert found[CHANCE][POINTING].mean() < 0.5
