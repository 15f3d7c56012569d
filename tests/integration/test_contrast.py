"""Contrast: a row less the answer's mean row, whichever rows are shown; what it cannot be is said or refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record, RequestError
from support.families import WORKING, tiny_llava
from support.methods import (
    EVERY_HEAD,
    PROMPTS,
    ask,
    asked_of_scenes,
    check_reference,
    close,
    eager_pass,
    flat,
    png,
    records,
    same_in_every_way,
    same_in_half_precision,
)  # fmt: skip

OPTIONS = {**EVERY_HEAD, "method": "contrast"}


def direct(model: Any, processor: Any, picture: bytes, record: Record) -> np.ndarray:
    """[row, layer, head, patch]: rows of output_attentions less the mean of those before ordinary tokens."""
    rows = eager_pass(model, processor, picture, record).patches.numpy()
    words = [i for i, token in enumerate(record.tokens) if not token.special]
    return rows - rows[words].mean(0)


def notes(record: Record) -> list[str]:
    return [note.text for note in record.facts.notes if note.code == "method"]


@pytest.mark.parametrize("which", ["own heads", "grouped heads"])
def test_every_layer_and_head_equals_the_direct_computation(which, engine, eager, grouped, pictures):
    ours, model = (engine, eager) if which == "own heads" else grouped
    for picture, record in zip(pictures, ask(ours, pictures, OPTIONS), strict=True):
        close(flat(record), direct(model, ours.loaded.processor, picture, record))


def test_the_mean_is_of_the_whole_answer_whichever_rows_are_shown(engine, pictures):
    """Some steps alone, and rows of the question, are held against the same mean row."""
    [whole] = ask(engine, pictures[:1], OPTIONS)
    [some] = ask(engine, pictures[:1], {**OPTIONS, "steps": [1, 4]})
    close(flat(some), flat(whole)[[1, 4]])
    [both] = ask(engine, pictures[:1], {**OPTIONS, "rows": "both"})
    close(flat(both)[: len(whole.tokens)], flat(whole))
    [question] = ask(engine, pictures[:1], {**OPTIONS, "rows": "prompt"})
    close(flat(question), flat(both)[len(whole.tokens) :])
    raw = {**OPTIONS, "method": "attention"}
    words = [i for i, token in enumerate(whole.tokens) if not token.special]
    mean = flat(ask(engine, pictures[:1], raw)[0])[words].mean(0)
    close(flat(question), flat(ask(engine, pictures[:1], {**raw, "rows": "prompt"})[0]) - mean)


def test_windows_are_still_told_of(pictures):
    ours = Engine.from_model(*tiny_llava(WORKING["mistral, window"]))
    [record] = ask(ours, pictures[:1], {**OPTIONS, "max_new_tokens": 5})
    assert [note.code for note in record.facts.notes if note.code == "window"] == ["window"]


def test_the_reference_values(engine):
    check_reference(engine, "contrast")


def test_a_batch_a_replay_and_static_buffers_give_the_same(engine, static_engine, pictures):
    same_in_every_way(engine, static_engine, pictures, OPTIONS)
    for some in ask(static_engine, pictures[:1], {**OPTIONS, "steps": [1, 4]}):
        close(flat(some), flat(ask(engine, pictures[:1], OPTIONS)[0])[[1, 4]])


def test_half_precision(half_engine, engine, pictures):
    same_in_half_precision(half_engine, engine, pictures, {**OPTIONS, "reduction": "layers_heads"})


def test_beams_and_samples_have_means_of_their_own(grouped, pictures):
    ours, _ = grouped
    for how in ({"num_beams": 3}, {"temperature": 2.0, "seed": 1}):
        [record] = ask(ours, pictures[:1], {**OPTIONS, **how, "num_return_sequences": 2, "max_new_tokens": 8})
        for i in range(2):
            one = record.sequence(i)
            words = [i for i, token in enumerate(one.tokens) if not token.special]
            assert np.abs(flat(one)[words].mean(0)).max() < 1e-6
            assert np.abs(flat(one)).max() > 1e-3


@pytest.mark.parametrize("length", [1, 2, 3])
def test_an_answer_of_fewer_than_three_words_has_no_contrast(length, engine, pictures):
    [record] = ask(engine, pictures[:1], {**OPTIONS, "max_new_tokens": length})
    if length < 3:
        [note] = notes(record)
        assert f"{length} ordinary word" in note
        assert "defined from 3 on" in note
        assert not flat(record).any()
    else:
        assert notes(record) == []
        assert flat(record).any()


def test_words_that_stand_there_again_are_named(engine):
    told = {}
    for item in [item for item in asked_of_scenes(12) if item.question.kind == "describe"]:
        [record] = ask(engine, [png(item)], {**OPTIONS, "max_new_tokens": 48}, [item.question.text])
        words = [token.text.strip() for token in record.tokens]
        again = {word for word in words if words.count(word) > 1 and word.isalpha() and len(word) > 2}
        assert {word for note in notes(record) for word in re.findall("“(\\w+)”", note.partition(": the")[2])} == again
        told[bool(again)] = told.get(bool(again), 0) + 1
    assert min(told[True], told[False]) >= 2


@pytest.mark.parametrize(
    ("options", "field", "says"),
    [
        ({"stream": True}, "options.stream", "known only when the answer is finished"),
        ({"reduction": "all"}, "options.reduction", "whose mean over an answer means nothing"),
    ],
)
def test_what_it_cannot_be_is_refused(options, field, says, engine, pictures):
    with pytest.raises(RequestError, match="got") as refused:
        engine.estimate(GenerateRequest.build(pictures[0], PROMPTS[0], {**OPTIONS, **options}))
    assert (refused.value.field, refused.value.code) == (field, "invalid")
    assert says in refused.value.message


def test_the_estimate_counts_the_rows_of_the_answer(engine, pictures):
    def looking(**options: Any) -> int:
        request = GenerateRequest.build(pictures[0], PROMPTS[0], {**EVERY_HEAD, **options})
        return engine.estimate(request).looking_bytes

    assert looking(method="contrast") >= 4 * 24 * 4 * 8 * 64 > looking(method="attention") == 0
    assert records(engine.run([GenerateRequest.build(pictures[0], PROMPTS[0], OPTIONS)]))
