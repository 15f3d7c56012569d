"""Occlusion: equal to one window and one forward at a time, windows at borders, the same in every way of running."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from integration.test_own_family import items_of
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record, RequestError
from support.blanked import Answered, answered, answered_by, near
from support.families import WORKING, lively, tiny_llava
from support.held import watched
from support.methods import PROMPTS, ask, flat, same_in_every_way, same_in_half_precision
from support.pictures import scene_bytes

OPTIONS = {"method": "occlusion", "precision": "float32", "max_new_tokens": 8}


@torch.no_grad()
def direct(answer: Answered, grids: list[tuple[int, int]], size: int, stride: int) -> np.ndarray:
    """[row, patch]: the fall at each window in turn, then for each patch the mean of those that hid it."""
    mean, whole = answer.image.mean(0), answer.log_probs(answer.image)
    falls: list[list[np.ndarray]] = [[] for _ in answer.image]
    first = 0
    for rows, cols in grids:
        tops = sorted({min(top, max(rows - size, 0)) for top in range(0, rows, stride)})
        lefts = sorted({min(left, max(cols - size, 0)) for left in range(0, cols, stride)})
        for top in tops:
            for left in lefts:
                hidden = [
                    first + row * cols + col
                    for row in range(top, min(top + size, rows))
                    for col in range(left, min(left + size, cols))
                ]
                image = answer.image.clone()
                image[hidden] = mean
                fall = (whole - answer.log_probs(image)).numpy()
                for patch in hidden:
                    falls[patch].append(fall)
        first += rows * cols
    return np.stack([np.mean(each, 0) for each in falls], 1)


@pytest.mark.parametrize(("size", "stride"), [(2, 1), (3, 2), (1, 1), (9, 4)])
def test_it_equals_one_window_at_a_time(size, stride, engine, eager, pictures):
    parameters = {"size": size, "stride": stride}
    [record] = ask(engine, pictures[:1], {**OPTIONS, "parameters": parameters})
    answer = answered(eager, engine.loaded.processor, pictures[0], record)
    wanted = direct(answer, [(8, 8)], size, stride)
    near(flat(record), wanted)
    if size == 9:  # one window, which hides all: without the image
        falls = [token.logprob - token.without_image for token in record.tokens]
        np.testing.assert_allclose(flat(record), np.tile(np.array(falls)[:, None], 64), atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "mistral, window", "gemma"])
def test_other_text_models(family, pictures):
    model, processor = tiny_llava(WORKING[family])
    ours = Engine.from_model(lively(model), processor)
    [record] = ask(ours, pictures[:1], {**OPTIONS, "max_new_tokens": 3})
    model.set_attn_implementation({"text_config": "eager"})
    near(flat(record), direct(answered(model, processor, pictures[0], record), [(8, 8)], 2, 1))


def test_windows_stay_in_their_grid_and_a_note_says_so(toy):
    request = GenerateRequest.build([scene_bytes(300, 140, seed=1), scene_bytes(97, 101, seed=2)], "What?", OPTIONS)
    [record] = toy.run([request])
    assert isinstance(record, Record), record
    [item] = items_of(toy, request)
    grids = [(grid.rows, grid.cols) for grid in item.images.layout.grids]
    assert len(grids) == 4
    near(flat(record), direct(answered_by(toy, item, record), grids, 2, 1))
    assert toy.estimate(request).passes == {"occlusion": 1 + sum((rows - 1) * (cols - 1) for rows, cols in grids)}
    [note] = [note.text for note in record.facts.notes if note.code == "method"]
    assert note.endswith("what other grids show of the same place stays visible.")


def test_a_batch_a_replay_and_static_buffers_give_the_same(engine, static_engine, pictures):
    options = {**OPTIONS, "parameters": {"size": 4, "stride": 3}, "max_new_tokens": 16}
    same_in_every_way(engine, static_engine, pictures, options, 2e-4)


def test_half_precision(half_engine, engine, pictures):
    same_in_half_precision(half_engine, engine, pictures, OPTIONS)


def test_what_it_takes_is_estimated(engine, pictures, monkeypatch):
    held = watched(monkeypatch)
    request = GenerateRequest.build(pictures[0], PROMPTS[0], {**OPTIONS, "max_new_tokens": 40})
    [record] = engine.run([request])
    assert isinstance(record, Record), record
    needed = engine.estimate(request)
    assert held[0] <= needed.looking_bytes + needed.maps_bytes
    assert needed.passes == {"occlusion": 50}
    assert not [note for note in record.facts.notes if note.code == "method"]


def test_a_window_over_a_whole_grid_says_so(engine, pictures):
    [record] = engine.run([GenerateRequest.build(pictures[0], PROMPTS[0], {**OPTIONS, "parameters": {"size": 9}})])
    [note] = [note.text for note in record.facts.notes if note.code == "method"]
    assert note.endswith("a window of 9 hides all of a grid of 8 x 8, whose map is one value; lower size.")
    assert np.ptp(flat(record), axis=-1).max() == 0


@pytest.mark.parametrize(
    ("parameters", "field", "says"),
    [
        ({"size": 2, "stride": 3}, "options.parameters.stride", "got 3 with windows of 2, expected up to 2"),
        ({"size": 0}, "options.parameters.size", "a whole number of at least 1"),
        ({"size": 65}, "options.parameters.size", "expected up to 64"),
        ({"stride": 1.5}, "options.parameters.stride", "expected a whole number"),
    ],
)
def test_what_it_cannot_do_is_refused(parameters: dict[str, Any], field: str, says: str, engine, pictures):
    with pytest.raises(RequestError, match="got") as refused:
        engine.estimate(GenerateRequest.build(pictures[0], PROMPTS[0], {**OPTIONS, "parameters": parameters}))
    assert (refused.value.field, refused.value.code) == (field, "invalid")
    assert says in refused.value.message
