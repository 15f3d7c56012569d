"""Replays, beams and several sequences: the attention of an answer that is given equals that of decoding it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import LlavaForConditionalGeneration

from integration.conftest import STORE
from integration.reference import processor_inputs
from llava_server.ask.request import GenerateRequest
from llava_viewer.look.picture import prepare_picture
from llava_wire import Record, RequestError, decode, encode

PROMPTS = ["Describe the image.", "What colour is the square?", "Is there a red circle in the image?"]
EVERYTHING = {"layers": "all", "heads": "all", "reduction": "none", "precision": "float32"}
TOLERANCE = 1e-5


def ask(engine, pictures, options: dict) -> list[Record]:
    results = engine.run([GenerateRequest.build(p, q, options) for p, q in zip(pictures, PROMPTS, strict=False)])
    assert all(isinstance(result, Record) for result in results), results
    return results


def same_attention(ours: Record, theirs: Record) -> None:
    assert [token.id for token in ours.tokens] == [token.id for token in theirs.tokens]
    assert ours.queries == theirs.queries
    assert list(ours.views) == list(theirs.views)
    for name, view in theirs.views.items():
        np.testing.assert_allclose(ours.views[name].maps_float(), view.maps_float(), atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(ours.views[name].shares, view.shares, atol=TOLERANCE, rtol=0)
    for one, other in zip(ours.tokens, theirs.tokens, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert [candidate.id for candidate in one.top] == [candidate.id for candidate in other.top]


@pytest.mark.parametrize("rows", ["answer", "prompt", "both"])
def test_a_replayed_batch_equals_the_online_capture(rows, engine, pictures):
    online = ask(engine, pictures, {**EVERYTHING, "rows": rows, "max_new_tokens": 24})
    brief = ask(engine, pictures, {"max_new_tokens": 24})
    assert len({len(record.tokens) for record in brief}) > 1, "the answers must differ in length"
    requests = [
        GenerateRequest.replay(record, {**EVERYTHING, "rows": rows}, picture)
        for record, picture in zip(brief, pictures, strict=True)
    ]
    for again, record in zip(engine.run(requests), online, strict=True):
        same_attention(again, record)
        assert again.run["decoder"] == "replay"
        assert again.facts.finish_reason == record.facts.finish_reason
        assert again.facts.sampling == record.facts.sampling
        assert again.facts.image == record.facts.image


def test_a_sampled_answer_replays_from_its_own_file_with_its_own_picture(engine, pictures):
    hot = {**EVERYTHING, "temperature": 5.0, "seed": 3, "max_new_tokens": 12}
    online = ask(engine, pictures[:1], hot)[0]
    file = encode(online.with_picture(*prepare_picture(pictures[0])))
    views = [{"name": "layer", "layers": [2], "reduction": "heads"}]
    request = GenerateRequest.replay(file, {"views": views, "precision": "float32"})
    again = engine.run([request])[0]
    expected = online.maps_float()[:, 2].mean(1)
    np.testing.assert_allclose(again.views["layer"].maps_float()[:, 0], expected, atol=TOLERANCE, rtol=0)
    assert again.facts.sampling["seed"] == 3
    assert again.facts.image.sha256 == online.facts.image.sha256


def test_steps_and_means_over_steps_mean_the_same_in_a_replay(engine, pictures):
    options = {"views": [{"name": "all", "reduction": "all"}], "precision": "float32"}
    online = ask(engine, pictures[:1], {**options, "steps": [0, 2, 4]})[0]
    again = engine.run([GenerateRequest.replay(online, {**options, "steps": [0, 2, 4]}, pictures[0])])[0]
    same_attention(again, online)
    assert again.views["all"].facts.steps == (0, 2, 4)


def test_replays_share_a_call_with_questions(engine, pictures):
    record = ask(engine, pictures[:1], {"precision": "float32"})[0]
    mixed = [
        GenerateRequest.replay(record, {"precision": "float32"}, pictures[0]),
        GenerateRequest.build(pictures[1], PROMPTS[1]),
        GenerateRequest.replay(record, {"layers": [77]}, pictures[0]),
    ]
    again, answer, refused = engine.run(mixed)
    same_attention(again, record)
    assert answer.answer
    assert isinstance(refused, RequestError)
    assert refused.field == "options.layers[0]"


def test_what_cannot_be_replayed_names_the_field(engine, pictures):
    record = ask(engine, pictures[:1], {})[0]
    facts = record.facts
    other_model = replace(record, facts=replace(facts, model=replace(facts.model, revision="other")))
    other_ids = replace(record, facts=replace(facts, prompt=replace(facts.prompt, ids=(*facts.prompt.ids[:-1], 5))))
    bad_token = replace(record, facts=replace(facts, tokens=(replace(facts.tokens[0], id=99_999), *facts.tokens[1:])))
    cases = [
        (other_model, pictures[0], "record.model"),
        (other_ids, pictures[0], "record.prompt.ids"),
        (bad_token, pictures[0], "record.tokens[0].id"),
        (record, pictures[1], "image"),
    ]
    for wrong, picture, field in cases:
        error = engine.run([GenerateRequest.replay(wrong, {}, picture)])[0]
        assert isinstance(error, RequestError), field
        assert (error.field, error.code) == (field, "invalid")
        assert "expected" in error.message
    for given, options, picture, field in [
        (record, {}, None, "image"),
        (record, {"temperature": 1.0}, pictures[0], "options.temperature"),
        (b"PK\x03\x04junk", {}, pictures[0], "record"),
        (7, {}, pictures[0], "record"),
    ]:
        with pytest.raises(RequestError) as caught:
            GenerateRequest.replay(given, options, picture)
        assert caught.value.field == field


@pytest.fixture(scope="module")
def plain() -> LlavaForConditionalGeneration:
    return LlavaForConditionalGeneration.from_pretrained(
        STORE / "llava-shapes", dtype=torch.float32, attn_implementation="sdpa"
    ).eval()


@torch.no_grad()
@pytest.mark.parametrize("penalty", [1.0, 0.0])
def test_beams_are_those_of_transformers_and_carry_exact_attention(penalty, engine, grouped, eager, pictures):
    options = {"num_beams": 4, "num_return_sequences": 3, "length_penalty": penalty, "max_new_tokens": 14}
    # Random weights make beams that differ from the greedy answer.
    for ours, reference in ((engine, eager), grouped):
        record = ask(ours, pictures[:1], {**EVERYTHING, **options})[0]
        inputs = processor_inputs(ours.loaded.processor, pictures[:1], PROMPTS[:1])
        output = reference.generate(
            **inputs, **{**options, "do_sample": False}, return_dict_in_generate=True, output_scores=True
        )
        length = inputs["input_ids"].shape[1]
        sequences = [record.sequence(i) for i in range(3)]
        for i, sequence in enumerate(sequences):
            ids = [token.id for token in sequence.tokens]
            assert ids == output.sequences[i, length : length + len(ids)].tolist()
            facts = sequence.facts.sampling
            assert (facts["sequence"], facts["sequences"], facts["num_beams"], facts["greedy"]) == (i, 3, 4, False)
            assert facts["score"] == pytest.approx(float(output.sequences_scores[i]), abs=1e-3)
            full = torch.cat([inputs["input_ids"], torch.tensor([ids])], 1)
            attentions = reference(
                input_ids=full, pixel_values=inputs["pixel_values"], output_attentions=True
            ).attentions
            start = sequence.grids[0].positions[0][0]
            rows = torch.stack([layer[0, :, length - 1 : -1, start : start + 64] for layer in attentions])
            expected = rows.permute(2, 0, 1, 3).numpy()
            np.testing.assert_allclose(sequence.maps_float().reshape(expected.shape), expected, atol=TOLERANCE, rtol=0)
        assert len({tuple(t.id for t in s.tokens) for s in sequences}) == 3


def test_samples_of_one_request_are_those_of_lone_requests_with_the_next_seeds(engine, pictures):
    options = {"temperature": 4.0, "seed": 40, "max_new_tokens": 10, "precision": "float32"}
    record = ask(engine, pictures[:1], {**options, "num_return_sequences": 3})[0]
    for i in range(3):
        alone = ask(engine, pictures[:1], {**options, "seed": 40 + i})[0]
        sequence = record.sequence(i)
        assert sequence.facts.sampling["seed"] == 40 + i
        same_attention(sequence, alone)
    again = decode(encode(record))
    assert [other.answer for other in again.alternatives] == [other.answer for other in record.alternatives]
    np.testing.assert_array_equal(again.alternatives[1].maps_float(), record.alternatives[1].maps_float())


def test_a_deadline_ends_a_beam_search(grouped, pictures):
    import time

    slow, _ = grouped
    hook = slow.loaded.model.register_forward_pre_hook(lambda *_: time.sleep(0.005))
    try:
        record = ask(slow, pictures[:1], {"num_beams": 2, "max_new_tokens": 200, "deadline_ms": 600})[0]
    finally:
        hook.remove()
    assert record.facts.finish_reason == "deadline"
    assert 1 <= len(record.tokens) < 200


def favouring(engine, token: int):
    """The engine's output layer with one token made much more probable; remove the hook afterwards."""

    def add(_module, _inputs, logits: torch.Tensor) -> torch.Tensor:
        logits[..., token] += 4
        return logits

    return engine.loaded.model.lm_head.register_forward_hook(add)


@pytest.mark.parametrize("options", [{"temperature": 2.0, "seed": 1}, {"num_beams": 3, "num_return_sequences": 2}])
def test_an_image_token_in_an_answer_is_a_word_like_others(options, grouped, pictures):
    ours, _ = grouped
    image = ours.loaded.model.config.image_token_id
    hook = favouring(ours, image)
    try:
        online = ask(ours, pictures[:2], {**EVERYTHING, **options, "max_new_tokens": 8})
        requests = [GenerateRequest.replay(r, EVERYTHING, p) for r, p in zip(online, pictures, strict=False)]
        replayed = ours.run(requests)
    finally:
        hook.remove()
    for again, record in zip(replayed, online, strict=True):
        assert image in [token.id for token in record.tokens[:-1]]
        assert isinstance(again, Record), again
        same_attention(again, record)


def test_a_mean_over_steps_that_the_answer_lacks_is_refused(engine, pictures):
    options = {"rows": "both", "steps": [60], "views": [{"name": "rows"}, {"name": "all", "reduction": "all"}]}
    refusal = engine.run([GenerateRequest.build(pictures[0], PROMPTS[0], options)])[0]
    assert isinstance(refusal, RequestError)
    assert (refusal.code, refusal.field) == ("invalid", "options.steps")
    rows = ask(engine, pictures[:1], {"rows": "both", "steps": [60]})[0]
    assert {query.kind for query in rows.queries} == {"prompt"}


def test_the_estimate_of_a_replay_covers_the_scores_of_the_answer(engine, pictures):
    facts = engine.loaded.facts
    question = GenerateRequest.build(pictures[0], PROMPTS[0], {"max_new_tokens": 24})
    record = engine.run([question])[0]
    replayed = engine.estimate(GenerateRequest.replay(record, {}, pictures[0]))
    count = len(record.tokens)
    logits = engine._preparer._vocabulary * 4 * count
    assert facts.score_bytes * count >= 2 * logits
    assert replayed.scratch_bytes >= engine.estimate(question).scratch_bytes + 2 * logits
