"""Sink-free attention: planted sinks are found, removed, listed and counted; without any it is attention."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import llava_server.attend.seen as attend
from llava_server.ask.request import GenerateRequest
from llava_server.attend.rows import attention_rows
from llava_wire import Record, decode, encode
from support.methods import (
    EVERY_HEAD,
    ask,
    asked_of_scenes,
    close,
    eager_pass,
    flat,
    png,
    same_in_every_way,
    same_in_half_precision,
)  # fmt: skip
from support.pointing import hits

SINKS = [(0, 7), (5, 2)]
PLACES = [row * 8 + col for row, col in SINKS]
STRENGTH = 4.0
OPTIONS = {**EVERY_HEAD, "method": "sink_free"}


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, engine: Any) -> None:
    """Every row of every head gives two patches e^4 times the weight: an addition to their scores."""

    def rows(*args: Any) -> Iterator[Any]:
        layout = args[4]
        columns = list(layout.places)
        for heads, part, weights in attention_rows(*args):
            weights[..., [columns[place] for place in PLACES]] *= np.exp(STRENGTH)
            yield heads, part, weights / weights.sum(-1, keepdim=True)

    monkeypatch.setattr(attend, "attention_rows", rows)


def notes(record: Record) -> str:
    return " ".join(note.text for note in record.facts.notes if note.code == "method")


def without(maps: np.ndarray, places: list[int]) -> np.ndarray:
    """By hand: each map's own row without some patches, divided by what is left."""
    found = maps.copy()
    found[..., places] = 0
    return found / (1 - maps[..., places].sum(-1, keepdims=True))


@pytest.mark.parametrize("which", ["own heads", "grouped heads"])
def test_planted_sinks_are_found_and_removed(which, planted, engine, eager, grouped, pictures):
    ours, model = (engine, eager) if which == "own heads" else grouped
    for picture, record in zip(pictures, ask(ours, pictures, OPTIONS), strict=True):
        rows = eager_pass(model, ours.loaded.processor, picture, record)
        weights = rows.attention.numpy().copy()
        image = rows.image.numpy().nonzero()[0]
        weights[..., image[PLACES]] *= np.exp(STRENGTH)
        weights /= weights.sum(-1, keepdims=True)
        close(flat(record), without(weights[..., image], PLACES))
        [view] = record.views.values()
        np.testing.assert_allclose(view.shares.sum(-1), 1, atol=1e-5)
        np.testing.assert_allclose(view.shares[..., 1], flat(record).sum(-1), atol=1e-5)
        left = 1 - weights[..., image[PLACES]].sum(-1)
        written = weights[..., len(record.facts.prompt.ids) :].sum(-1)
        np.testing.assert_allclose(view.shares[..., 3], written / left, atol=1e-5)
        said = notes(record)
        assert "2 patches left out" in said
        assert "(0, 7), (5, 2)" in said
        drawn = weights[..., image[PLACES]].sum(-1).mean((1, 2))
        words = [i for i, token in enumerate(record.tokens) if not token.special]
        assert f"drew {drawn[words].mean():.3f} of" in said
        decode(encode(record))


def test_the_rule_reads_the_whole_answer_whichever_rows_are_shown(planted, engine, pictures):
    [whole] = ask(engine, pictures[:1], OPTIONS)
    [some] = ask(engine, pictures[:1], {**OPTIONS, "steps": [1, 3]})
    close(flat(some), flat(whole)[[1, 3]])
    assert notes(some) == notes(whole)
    [question] = ask(engine, pictures[:1], {**OPTIONS, "rows": "prompt"})
    assert not flat(question)[..., PLACES].any()


def test_without_sinks_it_is_attention_and_says_so(engine, pictures):
    for ours, theirs in zip(
        ask(engine, pictures, OPTIONS), ask(engine, pictures, {**OPTIONS, "method": "attention"}), strict=True
    ):
        close(flat(ours), flat(theirs), 1e-7)
        np.testing.assert_allclose(next(iter(ours.views.values())).shares, next(iter(theirs.views.values())).shares)
        assert "no patch was left out: none draws" in notes(ours)


def test_short_answers_leave_all_patches_and_say_so(planted, engine, pictures):
    [record] = ask(engine, pictures[:1], {**OPTIONS, "max_new_tokens": 4})
    assert "needs 5 ordinary words, and the answer has 4" in notes(record)
    assert flat(record)[..., PLACES].min() > 0


def test_rows_with_nothing_else_stay_as_they_are(monkeypatch, engine, pictures):
    def rows(*args: Any) -> Iterator[Any]:
        column = list(args[4].places)[PLACES[0]]
        for heads, part, weights in attention_rows(*args):
            if 0 in heads:
                weights[list(heads).index(0)] = 0
            weights[..., column] += 1
            yield heads, part, weights / weights.sum(-1, keepdim=True)

    monkeypatch.setattr(attend, "attention_rows", rows)
    [record] = ask(engine, pictures[:1], OPTIONS)
    assert np.allclose(flat(record)[:, :, 0, PLACES[0]], 1)
    assert not flat(record)[:, :, 1:, PLACES[0]].any()
    assert f"in {4 * len(record.tokens)} maps nothing else was read" in notes(record)
    decode(encode(record))


def test_a_batch_a_replay_and_static_buffers_give_the_same(planted, engine, static_engine, pictures):
    same_in_every_way(engine, static_engine, pictures, OPTIONS)


def test_half_precision(planted, half_engine, engine, pictures):
    same_in_half_precision(half_engine, engine, pictures, {**OPTIONS, "reduction": "layers_heads"})


@pytest.mark.parametrize("scenes", [6, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_false_alarms_on_scenes_without_sinks_are_as_rare_as_the_page_says(scenes, engine):
    """The model has no sinks; in a short answer about one thing all words may read that thing."""
    names = {"mean": "all", "next-object": "next-object", "named-object": "named-object"}
    views = [{"name": name, "method": "sink_free", "heads": heads} for name, heads in names.items()]
    items = asked_of_scenes(scenes)
    alarms, answers = dict.fromkeys(names, 0), 0
    for start in range(0, len(items), 32):
        options = {"views": views, "max_new_tokens": 48}
        some = items[start : start + 32]
        for record in engine.run([GenerateRequest.build(png(item), item.question.text, options) for item in some]):
            answers += 1
            for name in names:
                [first, *_] = [note.text for note in record.facts.notes if f"“{name}”" in note.text]
                alarms[name] += "no patch was left out" not in first
    print(f"sinks found in {alarms} of {answers} answers about {scenes} scenes without any")
    assert answers >= 8 * scenes
    assert alarms["mean"] <= 0.003 * answers
    assert max(alarms.values()) <= max(1, 0.012 * answers)


def test_planted_sinks_hide_what_is_named_and_their_removal_shows_it(planted, engine):
    views = [{"name": name, "method": name, "layers": "all", "heads": "all"} for name in ("attention", "sink_free")]
    found = hits(engine, asked_of_scenes(12), views)
    assert found["attention"].mean() < 0.6
    assert found["sink_free"].mean() > found["attention"].mean() + 0.25
