"""Attention to text: equal to the eager model's own, and it finds the word that an answer repeats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from integration.test_own_family import items_of, own_eager
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record, RequestError, decode, encode
from llava_wire.view import TextView
from shapes.pointing import naming_tokens
from support.held import watched
from support.methods import PROMPTS, asked_of_scenes, eager_pass, png, records
from support.pictures import scene_bytes

ALL = {"layers": "all", "heads": "all"}
MEAN = {"name": "mean", **ALL}
WORDS = {"name": "words", "method": "text_attention", **ALL}
OPTIONS: dict[str, Any] = {"views": [MEAN, WORDS], "max_new_tokens": 24}


def asked(engine: Engine, pictures: list[bytes], options: dict[str, Any] = OPTIONS) -> list[Record]:
    requests = [GenerateRequest.build(p, q, options) for p, q in zip(pictures, PROMPTS, strict=False)]
    return [decode(encode(record)) for record in records(engine.run(requests))]


def same(ours: TextView, theirs: TextView, atol: float = 1e-6) -> None:
    assert ours.facts == theirs.facts
    np.testing.assert_allclose(ours.values, theirs.values, atol=atol, rtol=0)


@pytest.mark.parametrize("which", ["own heads", "grouped heads"])
def test_it_is_the_mean_of_the_eager_rows_at_all_words(which, engine, eager, grouped, pictures):
    ours, model = (engine, eager) if which == "own heads" else grouped
    for picture, record in zip(pictures, asked(ours, pictures), strict=True):
        found, view = eager_pass(model, ours.loaded.processor, picture, record), record.texts["words"]
        assert list(view.positions) == (~found.image).nonzero()[:, 0].tolist()
        wanted = found.attention.mean((1, 2))[:, ~found.image].numpy()
        np.testing.assert_allclose(view.values, wanted, atol=1e-6)
        assert np.abs(np.roll(view.values, 1, 1) - wanted).max() > 0.01, "words misread by one are noticed"
        shares = record.views["mean"].shares  # what is not on the image is on words
        np.testing.assert_allclose(view.values.sum(1), 1 - shares[..., 1], atol=1e-4)
        assert not record.texts["words"].values[0, -1]  # a row reads no later word


def test_alone_it_comes_beside_the_default_views(engine, pictures):
    [record] = asked(engine, pictures[:1], {"method": "text_attention", **ALL, "max_new_tokens": 24})
    [usual] = asked(engine, pictures[:1], {"max_new_tokens": 24})
    assert list(record.texts) == ["selection"]
    assert list(record.views) == list(usual.views)
    [named] = asked(engine, pictures[:1])
    np.testing.assert_array_equal(record.texts["selection"].values, named.texts["words"].values)
    [streamed] = engine.run(
        [GenerateRequest.build(pictures[0], PROMPTS[0], {"method": "text_attention", "stream": True})]
    )
    assert isinstance(streamed, RequestError)


def test_layers_heads_and_pairs_are_averaged_as_they_are_named(engine, eager, pictures):
    views = [
        MEAN,
        {"name": "some", "method": "text_attention", "layers": [0, 2], "heads": [1, 5, 6]},
        {"name": "pairs", "method": "text_attention", "heads": [[1, 4], [2, 7]]},
    ]
    [record] = asked(engine, pictures[:1], {**OPTIONS, "views": views})
    found = eager_pass(eager, engine.loaded.processor, pictures[0], record)
    rows = found.attention[..., ~found.image].numpy()
    np.testing.assert_allclose(record.texts["some"].values, rows[:, [0, 2]][:, :, [1, 5, 6]].mean((1, 2)), atol=1e-6)
    np.testing.assert_allclose(record.texts["pairs"].values, rows[:, [1, 2], [4, 7]].mean(1), atol=1e-6)
    assert record.texts["pairs"].facts.pairs == ((1, 4), (2, 7))


def test_a_batch_a_replay_and_static_buffers_give_the_same(engine, static_engine, pictures):
    together = asked(engine, pictures)
    for number, record in enumerate(together):
        [alone] = records(engine.run([GenerateRequest.build(pictures[number], PROMPTS[number], OPTIONS)]))
        same(record.texts["words"], alone.texts["words"])
        replay = GenerateRequest.replay(record, {"views": OPTIONS["views"]}, pictures[number])
        [again] = records(engine.run([replay]))
        same(record.texts["words"], again.texts["words"])
    for one, other in zip(asked(static_engine, pictures), together, strict=True):
        same(one.texts["words"], other.texts["words"], 1e-5)


def test_several_grids_question_rows_and_separators(toy):
    request = GenerateRequest.build(
        [scene_bytes(300, 140, seed=1), scene_bytes(97, 101, seed=2)], "What?",
        {**OPTIONS, "max_new_tokens": 4, "rows": "both"},
    )  # fmt: skip
    [record] = records(toy.run([request]))
    [item] = items_of(toy, request)
    rows, _ = own_eager(toy, item, tuple(token.id for token in record.tokens))
    view = record.texts["words"]
    assert set(view.positions) == set(range(rows.shape[-1])) - set(item.prompt.patches)
    np.testing.assert_allclose(
        view.values[: len(record.tokens)], rows.mean((1, 2))[..., list(view.positions)], atol=3e-6
    )
    asked_rows = [place for place, query in enumerate(record.queries) if query.kind == "prompt"]
    assert asked_rows
    for place in asked_rows:
        position = record.queries[place].position
        later = np.array(view.positions) > position
        assert not view.values[place][later].any()
        assert view.values[place][~later].any()
    decode(encode(record))


def test_the_mean_of_the_heads_finds_the_word_that_is_repeated(engine):
    """Of the words that name an object: the earlier word that a row reads most is that very word."""
    hits: dict[str, list[bool]] = {"mean": [], "layer 0": [], "layer 1": [], "late": []}
    views = [
        MEAN,
        WORDS,
        *({"name": f"layer {n}", "method": "text_attention", "layers": [n], "heads": "all"} for n in (0, 1)),
    ]
    decode_one = engine.loaded.processor.tokenizer.decode
    items = [item for item in asked_of_scenes(24, of=240) if item.question.kind != "describe"]
    for start in range(0, len(items), 16):
        some = items[start : start + 16]
        options = {"views": views, "max_new_tokens": 32, "check": []}
        requests = [GenerateRequest.build(png(item), item.question.text, options) for item in some]
        for item, record in zip(some, records(engine.run(requests)), strict=True):
            ids = [*record.facts.prompt.ids, *(token.id for token in record.tokens)]
            texts = [decode_one([one]).strip() for one in ids]
            after = record.grids[0].positions[0][0] + 64  # words after the image
            for named in naming_tokens([token.text for token in record.tokens], item.scene.objects, item.question.text):
                position = record.queries[named.step].position
                for name, view in (
                    ("mean", "words"),
                    ("layer 0", "layer 0"),
                    ("layer 1", "layer 1"),
                    ("late", "words"),
                ):
                    row = named.step + (name == "late")
                    text = record.texts[view]
                    read = {
                        p: float(v)
                        for p, v in zip(text.positions, text.values[row], strict=True)
                        if after < p < position
                    }
                    earlier = [place for place in read if texts[place] == texts[position + 1]]
                    if earlier:
                        hits[name].append(max(read, key=lambda place: read[place]) in earlier)
    found = {name: float(np.mean(each)) for name, each in hits.items()}
    print(found, {name: len(each) for name, each in hits.items()})
    assert len(hits["mean"]) > 100
    assert found["mean"] >= 0.95
    assert found["layer 0"] >= 0.95
    assert found["layer 1"] < 0.5
    assert found["late"] < 0.5


def test_what_it_takes_is_estimated(engine, pictures, monkeypatch):
    held = watched(monkeypatch)
    request = GenerateRequest.build(pictures[0], PROMPTS[0], OPTIONS)
    [record] = records(engine.run([request]))
    needed = engine.estimate(request)
    plain = engine.estimate(GenerateRequest.build(pictures[0], PROMPTS[0], {**OPTIONS, "views": [MEAN]}))
    assert held[0] <= needed.looking_bytes + needed.maps_bytes + needed.scratch_bytes
    assert needed.maps_bytes > plain.maps_bytes
    assert needed.response_bytes - plain.response_bytes > record.texts["words"].values.nbytes
    assert len(encode(record)) < needed.response_bytes


@pytest.mark.parametrize(
    ("options", "field", "says"),
    [
        ({"views": [MEAN, {**WORDS, "reduction": "none"}]}, "options.views[1].reduction", "whose columns are tokens"),
        ({"views": [MEAN, {**WORDS, "reduction": "all"}]}, "options.views[1].reduction", "expected 'layers_heads'"),
        ({"views": [MEAN, WORDS], "stream": True}, "options.stream", "known only when the answer is finished"),
        ({"views": [MEAN, {**WORDS, "name": "mean"}]}, "options.views[1].name", "mean"),
        ({"views": [{**WORDS, "name": "mean"}]}, "options.views[0].name", "the default views, which come beside"),
        (
            {"views": [MEAN, WORDS], "check": [{"name": "patches", "view": "words"}]},
            "options.check[0].view",
            "got 'words', expected one of ['mean']",
        ),
    ],
)
def test_what_it_cannot_do_is_refused(options, field, says, engine, pictures):
    with pytest.raises(RequestError) as refused:
        engine.estimate(GenerateRequest.build(pictures[0], PROMPTS[0], options))
    assert (refused.value.code, refused.value.field) == ("invalid", field)
    assert says in refused.value.message
