"""RISE: masks as they should be, maps equal to one forward at a time, the same in every way of running."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from integration.test_own_family import items_of
from llava_doors.methods.rise import masks
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record, RequestError
from support.blanked import Answered, answered, answered_by, near
from support.families import WORKING, lively, tiny_llava
from support.held import watched
from support.methods import PROMPTS, ask, flat, same_in_every_way, same_in_half_precision
from support.pictures import scene_bytes

OPTIONS = {"method": "rise", "parameters": {"masks": 24}, "precision": "float32", "max_new_tokens": 8}


def drawn(grids: list[tuple[int, int]], count: int = 24, cells: int = 4, seed: int = 0) -> torch.Tensor:
    view: Any = SimpleNamespace(parameters={"masks": count, "cells": cells, "seed": seed})
    return masks(grids, view)


@torch.no_grad()
def direct(answer: Answered, shown: torch.Tensor) -> np.ndarray:
    """[row, patch]: one mask after another, each mixed into the image tokens, sums by hand."""
    mean = answer.image.mean(0)
    logs, weighed, weights = [], torch.zeros(len(answer.words), shown.shape[1]), shown.sum(0)
    for one in shown.double():
        logs.append(answer.log_probs(one[:, None] * answer.image + (1 - one[:, None]) * mean))
        weighed += logs[-1][:, None] * one
    return (weighed / weights - torch.stack(logs).mean(0)[:, None]).numpy()


def test_masks_are_half_shown_smooth_and_moved_about():
    many = drawn([(8, 8)], 2000)
    assert (many.min(), many.max()) == (0, 1)
    assert float(many.mean()) == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(many.mean(0), 0.5, atol=0.05)
    for axis in (1, 2):
        steps = many.unflatten(1, (8, 8)).diff(dim=axis).abs()
        assert float(steps.max()) <= 0.5  # a cell is two patches wide, and what lies between two is bilinear
        along = steps.mean((0, 3 - axis))
        np.testing.assert_allclose(along, along.mean(), atol=0.02)  # cells begin at every patch alike
    assert set(drawn([(8, 8)], 50, 8).unique().tolist()) == {0.0, 1.0}
    assert torch.equal(drawn([(8, 8)]), drawn([(8, 8)]))
    assert not torch.equal(drawn([(8, 8)]), drawn([(8, 8)], seed=1))
    assert drawn([(3, 6), (24, 24), (1, 5)], 16, 7).shape == (16, 18 + 576 + 5)


def test_it_equals_one_mask_at_a_time(engine, eager, pictures):
    for parameters in ({"masks": 24}, {"masks": 16, "cells": 3, "seed": 5}):
        [record] = ask(engine, pictures[:1], {**OPTIONS, "parameters": parameters})
        shown = drawn([(8, 8)], parameters["masks"], parameters.get("cells", 4), parameters.get("seed", 0))
        near(flat(record), direct(answered(eager, engine.loaded.processor, pictures[0], record), shown))


@pytest.mark.parametrize("family", ["llama", "mistral, window", "gemma"])
def test_other_text_models(family, pictures):
    model, processor = tiny_llava(WORKING[family])
    ours = Engine.from_model(lively(model), processor)
    [record] = ask(ours, pictures[:1], {**OPTIONS, "max_new_tokens": 3})
    model.set_attn_implementation({"text_config": "eager"})
    near(flat(record), direct(answered(model, processor, pictures[0], record), drawn([(8, 8)])))


def test_several_grids_are_masked_together(toy):
    request = GenerateRequest.build([scene_bytes(300, 140, seed=1), scene_bytes(97, 101, seed=2)], "What?", OPTIONS)
    [record] = toy.run([request])
    assert isinstance(record, Record), record
    [item] = items_of(toy, request)
    grids = [(grid.rows, grid.cols) for grid in item.images.layout.grids]
    near(flat(record), direct(answered_by(toy, item, record), drawn(grids)))


def test_a_batch_a_replay_and_static_buffers_give_the_same(engine, static_engine, pictures):
    options = {**OPTIONS, "parameters": {"masks": 16}, "max_new_tokens": 16}
    same_in_every_way(engine, static_engine, pictures, options, 2e-4)


def test_half_precision(half_engine, engine, pictures):
    same_in_half_precision(half_engine, engine, pictures, OPTIONS)


def test_what_it_takes_is_estimated(engine, pictures, monkeypatch):
    held = watched(monkeypatch)
    request = GenerateRequest.build(
        pictures[0], PROMPTS[0], {**OPTIONS, "max_new_tokens": 12, "parameters": {"masks": 64}}
    )
    [record] = engine.run([request])
    assert isinstance(record, Record), record
    needed = engine.estimate(request)
    assert held[0] <= needed.looking_bytes + needed.maps_bytes
    assert needed.passes == {"rise": 64}


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"masks": 15}, "at least 16"),
        ({"masks": 4097}, "up to 4096"),
        ({"cells": 1}, "at least 2"),
        ({"seed": -1}, "at least 0"),
    ],
)
def test_what_it_cannot_do_is_refused(parameters, says, engine, pictures):
    with pytest.raises(RequestError, match=says):
        engine.estimate(GenerateRequest.build(pictures[0], PROMPTS[0], {**OPTIONS, "parameters": parameters}))
