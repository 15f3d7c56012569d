"""Token activation maps: equal to a slow computation from transformers' states, and labelled with what they miss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from integration.test_own_family import items_of
from llava_doors.methods.tam import NOTE
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record
from support.blanked import answered_by
from support.families import WORKING, lively, tiny_llava
from support.held import watched
from support.methods import PROMPTS, ask, close, eager_pass, flat, same_in_every_way, same_in_half_precision
from support.pictures import scene_bytes

OPTIONS = {"method": "tam", "precision": "float32", "max_new_tokens": 12}
TOLERANCE = 1e-3
"""Ranks that change places make no small difference, so what lies near a tie is left a little more."""


def ranked(values: np.ndarray) -> np.ndarray:
    """The filter, one place at a time."""
    found = np.zeros_like(values)
    around = np.pad(values, 1, mode="reflect")
    for row in range(values.shape[0]):
        for col in range(values.shape[1]):
            nine = sorted(around[row : row + 3, col : col + 3].ravel())
            mean = sum(nine) / 9
            if mean == 0:
                continue
            spread = math.sqrt(sum((one - mean) ** 2 for one in nine) / 9) / mean
            weights = [math.exp(-((rank - 4) ** 2) / (2 * spread**2 + 1e-12)) for rank in range(9)]
            found[row, col] = sum(w * one for w, one in zip(weights, nine, strict=True)) / sum(weights)
    return found


def direct(
    logits: np.ndarray, ids: list[int], places: list[int], first: int, grids: list[Any], decode: Any
) -> np.ndarray:
    """[row, patch] of an answer whose first token follows position `first`, one row at a time.

    Args:
        logits: [position, vocabulary].
        ids: of prompt and answer.
        places: those of the patches.
    """
    maps = []
    for row in range(first, len(ids) - 1):
        word = ids[row + 1]
        own = np.maximum(logits[places, word], 0)
        text = [p for p in range(places[0], row + 1) if p not in places and decode([ids[p]]) != decode([word])]
        relevance = np.maximum(logits[text, word], 0)
        context = np.zeros(len(places))
        for p, weight in zip(text, relevance, strict=True):
            context += weight * np.maximum(logits[places, ids[p]], 0) / max(relevance.sum(), 1e-12)
        left = np.maximum(own - own @ context / max(context @ context, 1e-12) * context, 0)
        low, high = min(left.min(), *relevance, 0), max(left.max(), *relevance)
        scaled, start, parts = (left - low) / (high - low), 0, []
        for rows, cols in grids:
            parts.append(ranked(scaled[start : start + rows * cols].reshape(rows, cols)).ravel())
            start += rows * cols
        maps.append(np.concatenate(parts))
    return np.stack(maps)


def of_llava(model: Any, processor: Any, picture: bytes, record: Record) -> np.ndarray:
    found = eager_pass(model, processor, picture, record)
    ids = [*record.facts.prompt.ids, *(token.id for token in record.tokens)]
    places = found.image.nonzero()[:, 0].tolist()
    logits = found.hidden[-1].double() @ model.get_output_embeddings().weight.detach().double().T
    first = len(record.facts.prompt.ids) - 1
    return direct(logits.numpy(), ids, places, first, [(8, 8)], processor.tokenizer.decode)


def test_it_equals_the_slow_computation(engine, eager, pictures):
    for picture, record in zip(pictures, ask(engine, pictures, OPTIONS), strict=True):
        close(flat(record), of_llava(eager, engine.loaded.processor, picture, record), TOLERANCE)
        assert flat(record).max() <= 1
        [note] = [note.text for note in record.facts.notes if note.code == "method"]
        assert note.endswith(NOTE)


@pytest.mark.parametrize("family", ["qwen3", "gpt-neox"])
def test_other_text_models(family, pictures):
    model, processor = tiny_llava(WORKING[family])
    ours = Engine.from_model(lively(model), processor)
    [record] = ask(ours, pictures[:1], {**OPTIONS, "max_new_tokens": 4})
    model.set_attn_implementation({"text_config": "eager"})
    close(flat(record), of_llava(model, processor, pictures[0], record), TOLERANCE)


def test_each_grid_is_filtered_alone(toy):
    request = GenerateRequest.build(scene_bytes(300, 140, seed=1), "What?", {**OPTIONS, "max_new_tokens": 3})
    [record] = toy.run([request])
    assert isinstance(record, Record), record
    [item] = items_of(toy, request)
    ids = [*item.prompt.ids, *(token.id for token in record.tokens)]
    answer = answered_by(toy, item, record)
    logits = answer.run(answer.embeddings[None]).detach().numpy()
    grids = [(grid.rows, grid.cols) for grid in item.images.layout.grids]
    decode = toy.loaded.processor.tokenizer.decode
    found = direct(logits, ids, list(item.prompt.patches), answer.first, grids, decode)
    close(flat(record), found, TOLERANCE)


def test_a_batch_a_replay_and_static_buffers_give_the_same(engine, static_engine, pictures):
    same_in_every_way(engine, static_engine, pictures, {**OPTIONS, "max_new_tokens": 16}, TOLERANCE)


def test_half_precision(half_engine, engine, pictures):
    same_in_half_precision(half_engine, engine, pictures, OPTIONS)


def test_rows_of_the_question_have_maps_too(engine, pictures):
    [both] = ask(engine, pictures[:1], {**OPTIONS, "rows": "both"})
    [answer] = ask(engine, pictures[:1], OPTIONS)
    close(flat(both)[: len(answer.tokens)], flat(answer), TOLERANCE)
    assert np.isfinite(flat(both)).all()


def test_the_estimate_bounds_what_is_held(engine, pictures, monkeypatch):
    held = watched(monkeypatch)
    request = GenerateRequest.build(pictures[0], PROMPTS[0], {**OPTIONS, "rows": "both"})
    [record] = engine.run([request])
    assert isinstance(record, Record), record
    needed = engine.estimate(request)
    assert held[0] <= needed.looking_bytes + needed.maps_bytes
