"""Integrated gradients: equal to one backward at a time, sums that are told, the same in every way of running."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from integration.test_own_family import items_of
from llava_server.answer import builder
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import Limits, ModelSettings
from llava_server.engine import Engine
from llava_server.look.pace import Pace
from llava_wire import Record, RequestError
from support.blanked import Answered, answered, answered_by
from support.families import WORKING, lively, tiny_llava
from support.held import watched
from support.methods import PROMPTS, ask, close, flat, same_in_every_way, same_in_half_precision
from support.pictures import scene_bytes

OPTIONS = {
    "method": "integrated_gradients", "parameters": {"steps": 3}, "precision": "float32", "max_new_tokens": 4,
}  # fmt: skip
TOLERANCE = 2e-4


def direct(answer: Answered, steps: int) -> np.ndarray:
    """[row, patch]: one point and one row at a time."""
    mean = answer.image.mean(0)
    way = answer.image - mean
    found = torch.zeros(len(answer.words), len(way))
    for row in range(len(found)):
        for step in range(steps):
            image = (mean + (step + 0.5) / steps * way).requires_grad_()
            answer.log_probs(image)[row].backward()
            assert image.grad is not None
            found[row] += (image.grad * way).sum(1) / steps
    return found.numpy()


def parts(record: Record) -> dict[str, np.ndarray]:
    [view] = record.views.values()
    assert view.parts is not None
    return dict(zip(view.facts.parts, view.parts.reshape(len(record.queries), -1).T, strict=True))


@pytest.mark.parametrize("which", ["own heads", "grouped heads"])
def test_it_equals_one_backward_at_a_time(which, engine, eager, grouped, pictures):
    ours, model = (engine, eager) if which == "own heads" else grouped
    for picture, record in zip(pictures[:2], ask(ours, pictures[:2], OPTIONS), strict=True):
        answer = answered(model, ours.loaded.processor, picture, record)
        close(flat(record), direct(answer, 3), TOLERANCE)
        told, mean = parts(record), answer.image.mean(0).expand_as(answer.image)
        np.testing.assert_allclose(told["image"], flat(record).sum(1), atol=1e-5)
        np.testing.assert_allclose(told["without image"], answer.log_probs(mean), atol=1e-4)
        np.testing.assert_allclose(sum(told.values()), answer.log_probs(answer.image), atol=1e-4)


@pytest.mark.parametrize("family", ["mistral, window", "qwen3", "gemma"])
def test_other_text_models(family, pictures):
    model, processor = tiny_llava(WORKING[family])
    ours = Engine.from_model(lively(model), processor)
    [record] = ask(ours, pictures[:1], OPTIONS)
    model.set_attn_implementation({"text_config": "eager"})
    close(flat(record), direct(answered(model, processor, pictures[0], record), 3), TOLERANCE)


def test_several_grids_have_one_mean(toy):
    request = GenerateRequest.build([scene_bytes(300, 140, seed=1), scene_bytes(97, 101, seed=2)], "What?", OPTIONS)
    [record] = toy.run([request])
    assert isinstance(record, Record), record
    [item] = items_of(toy, request)
    close(flat(record), direct(answered_by(toy, item, record), 3), TOLERANCE)


def test_enough_steps_miss_little_and_few_say_so(engine, pictures):
    [enough] = ask(engine, pictures[:1], {**OPTIONS, "parameters": {"steps": 96}, "max_new_tokens": 8})
    told = parts(enough)
    falls = np.array([token.logprob - token.without_image for token in enough.tokens])
    assert falls.max() > 1
    np.testing.assert_allclose(told["image"] + told["missed"], falls, atol=1e-3)
    assert (np.abs(told["missed"]) < 0.05 * np.maximum(falls, 1)).all()
    assert not [note for note in enough.facts.notes if note.code == "method"]
    [few] = ask(engine, pictures[:1], {**OPTIONS, "parameters": {"steps": 1}, "max_new_tokens": 8})
    [note] = [note.text for note in few.facts.notes if note.code == "method"]
    assert "of 8 maps the patches miss more than 0.05 of the fall of log p without the image (at worst" in note


def test_a_batch_a_replay_and_static_buffers_give_the_same(engine, static_engine, pictures):
    same_in_every_way(
        engine, static_engine, pictures, {**OPTIONS, "max_new_tokens": 16, "parameters": {"steps": 2}}, TOLERANCE
    )


def test_half_precision(half_engine, engine, pictures):
    same_in_half_precision(half_engine, engine, pictures, OPTIONS)


def test_rows_of_the_question_and_means(engine, pictures):
    [both] = ask(engine, pictures[:1], {**OPTIONS, "rows": "both"})
    [answer] = ask(engine, pictures[:1], OPTIONS)
    [mean] = ask(engine, pictures[:1], {**OPTIONS, "reduction": "all"})
    count = len(answer.tokens)
    assert len(flat(both)) > count
    close(flat(both)[:count], flat(answer), TOLERANCE)
    assert np.abs(flat(both)[count:]).max() > 0
    ordinary = [number for number, token in enumerate(answer.tokens) if not token.special]
    close(flat(mean), flat(answer)[ordinary].mean(0), TOLERANCE)


@pytest.mark.parametrize("family", ["shapes", "llama", "qwen3"])
def test_the_estimate_bounds_what_is_held(family, engine, pictures, monkeypatch):
    served = engine if family == "shapes" else Engine.from_model(*tiny_llava(WORKING[family]))
    held = watched(monkeypatch)
    request = GenerateRequest.build(pictures[0], PROMPTS[0], {**OPTIONS, "max_new_tokens": 12})
    [record] = served.run([request])
    assert isinstance(record, Record), record
    needed = served.estimate(request)
    assert held[0] <= needed.looking_bytes + needed.maps_bytes
    assert needed.passes == {"integrated_gradients": 2 + 3 * (1 + 2 * 12)}


def test_passes_are_counted_as_they_run_and_end_with_the_time(engine, pictures, monkeypatch):
    counts: list[int] = []
    monkeypatch.setattr(Pace, "before", lambda self, count: counts.append(count))
    [record] = ask(engine, pictures[:1], OPTIONS)
    assert sum(counts) == 2 + 3 * (1 + 2 * len(record.tokens))
    monkeypatch.undo()
    monkeypatch.setattr(builder, "Pace", lambda passes, deadline_s, allowed_ms: Pace(passes, 0.0, allowed_ms))
    late, other = engine.run(
        [
            GenerateRequest.build(pictures[0], PROMPTS[0], OPTIONS),
            GenerateRequest.build(pictures[1], PROMPTS[1], {"max_new_tokens": 4}),
        ]
    )
    assert isinstance(late, RequestError)
    assert (late.code, late.field) == ("deadline", "options.deadline_ms")
    assert isinstance(other, Record)
    assert all(token.without_image is not None for token in other.tokens)


def test_too_many_passes_are_refused_beforehand_with_what_to_do(engine, pictures):
    def passes(**options: Any) -> int:
        request = GenerateRequest.build(pictures[0], PROMPTS[0], {**OPTIONS, "max_new_tokens": 64, **options})
        return engine.estimate(request).passes["integrated_gradients"]

    assert passes() == 2 + 3 * 129
    assert passes(steps=[1, 5]) == 2 + 3 * 5
    assert passes(num_return_sequences=2, temperature=1.0) == 2 * passes()
    few = Engine(engine.loaded, ModelSettings(limits=Limits(max_passes=388)))
    [refused] = few.run([GenerateRequest.build(pictures[0], PROMPTS[0], {**OPTIONS, "max_new_tokens": 64})])
    assert isinstance(refused, RequestError)
    assert (refused.code, refused.field) == ("does_not_fit", "options.method")
    assert refused.message == (
        "got up to 389 passes over prompt and answer, expected 388; list fewer steps, set a smaller max_new_tokens, or "
        "ask 'integrated_gradients' for less by its parameters"
    )
