"""generation_config.json is followed alike by greedy, sampled and beam answers, as by transformers' generate."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from integration.reference import processor_inputs
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import ModelSettings
from llava_server.engine import Engine
from llava_wire import Record
from support.families import WORKING, tiny_llava

PROMPT, NEW = "What is there?", 10
PUBLISHED = {"repetition_penalty": 3.0, "no_repeat_ngram_size": 2}
SAMPLING = {"top_k": 6, "temperature": 1.7}


def twin(**published: Any) -> tuple[Engine, Any]:
    """An engine, and the same model untouched, both with the published configuration."""
    model, processor = tiny_llava(WORKING["llama"])
    plain = copy.deepcopy(model)
    for one in (model, plain):
        one.generation_config = GenerationConfig(eos_token_id=model.generation_config.eos_token_id, **published)
    return Engine.from_model(model, processor, ModelSettings(name="tiny")), plain


def ours(engine: Engine, picture: bytes, **options: Any) -> Record:
    [record] = engine.run([GenerateRequest.build(picture, PROMPT, {"max_new_tokens": NEW, **options})])
    assert isinstance(record, Record), record
    return record


@torch.no_grad()
def theirs(engine: Engine, plain: Any, picture: bytes, seed: int = 0, **how: Any) -> list[int]:
    inputs = processor_inputs(engine.loaded.processor, [picture], [PROMPT])
    torch.manual_seed(seed)
    output = plain.generate(**inputs, max_new_tokens=NEW, pad_token_id=0, **how)
    return output[0, inputs["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize(
    ("options", "how"),
    [
        ({}, {"do_sample": False}),
        ({"num_beams": 3}, {"do_sample": False, "num_beams": 3}),
        ({"temperature": 1.5, "seed": 5}, {"do_sample": True, "temperature": 1.5, "top_k": 0, "seed": 5}),
    ],
    ids=["greedy", "beams", "sampled"],
)
def test_every_way_follows_the_published_configuration(
    options: dict[str, Any], how: dict[str, Any], pictures: list[bytes]
) -> None:
    unwanted = sorted({token.id for token in ours(twin()[0], pictures[0], **options).tokens[:3]})
    engine, plain = twin(**PUBLISHED, suppress_tokens=unwanted)
    record = ours(engine, pictures[0], **options)
    ids = [token.id for token in record.tokens]
    assert ids == theirs(engine, plain, pictures[0], **how)
    assert not {*unwanted} & {*ids}
    [note] = [note for note in record.facts.notes if note.code == "generation-config"]
    assert "repetition_penalty 3.0" in note.text
    assert f"suppress_tokens {unwanted}" in note.text
    streamed = [*engine.stream(GenerateRequest.build(pictures[0], PROMPT, {"max_new_tokens": NEW, **options}))]
    if "num_beams" not in options:
        assert [part.token.id for part in streamed[:-1]] == ids


def test_sampling_values_that_a_request_does_not_name_are_the_published_ones(pictures: list[bytes]) -> None:
    engine, plain = twin(**SAMPLING)
    record = ours(engine, pictures[0], top_p=0.9, seed=3)
    assert [token.id for token in record.tokens] == theirs(
        engine, plain, pictures[0], seed=3, do_sample=True, top_p=0.9
    )
    assert {name: record.facts.sampling[name] for name in ("temperature", "top_k", "top_p")} == {
        **SAMPLING,
        "top_p": 0.9,
    }
    named = ours(engine, pictures[0], temperature=1.0, top_k=50, seed=3)
    assert (named.facts.sampling["temperature"], named.facts.sampling["top_k"]) == (1.0, 50)
    greedy = ours(engine, pictures[0])
    assert greedy.facts.sampling["greedy"] is True
    assert "top_k" not in greedy.facts.sampling


def test_what_is_not_followed_is_said(pictures: list[bytes]) -> None:
    engine, _ = twin(stop_strings=["end"], max_length=77, do_sample=True, num_beams=4)
    record = ours(engine, pictures[0])
    [note] = record.facts.notes
    assert (note.code, note.field) == ("generation-config-ignored", "model")
    assert "stop_strings" in note.text
    assert "num_beams" not in note.text
    assert record.facts.sampling["greedy"] is True


def test_a_plain_model_needs_no_note(pictures: list[bytes]) -> None:
    assert ours(twin()[0], pictures[0]).facts.notes == ()


def test_short_samples_do_not_cost_the_others(pictures: list[bytes]) -> None:
    """Of several answers, one that ended before the steps asked for shows its last step and says so."""
    engine, _ = twin()
    options = {"temperature": 3.0, "seed": 1, "num_return_sequences": 4, "max_new_tokens": 12}
    [free] = engine.run([GenerateRequest.build(pictures[0], PROMPT, options)])
    assert isinstance(free, Record)
    # An id that ends some of the answers early, and not all.
    rows = [[token.id for token in one.tokens] for one in (free, *free.alternatives)]
    end = next(i for i in rows[1][2:9] if sum(i in row for row in rows) < len(rows))
    object.__setattr__(engine.loaded, "eos_ids", (end,))
    options["steps"] = [11]
    [record] = engine.run([GenerateRequest.build(pictures[0], PROMPT, options)])
    assert isinstance(record, Record), record
    answers = [record, *record.alternatives]
    assert len(answers) == 4
    short = [one for one in answers if len(one.tokens) < 12]
    assert 0 < len(short) < 4
    for one in answers:
        assert [query.step for query in one.queries] == [len(one.tokens) - 1]
        codes = [note.code for note in one.facts.notes]
        assert codes == (["steps-ended"] if one in short else [])
