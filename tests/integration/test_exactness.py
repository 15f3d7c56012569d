"""Maps, shares and tokens equal what transformers' eager attention and plain sdpa generation give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlavaForConditionalGeneration

from integration.conftest import STORE
from integration.reference import eager_run, processor_inputs, toolkit_reduction
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record, RequestError
from support.adversarial import sum_errors

PROMPTS = ["Describe the image.", "What colour is the square?", "Is there a red circle in the image?"]
EVERYTHING = {"layers": "all", "heads": "all", "reduction": "none", "precision": "float32", "max_new_tokens": 24}
TOLERANCE = 1e-6


def run(engine: Engine, pictures: list[bytes], prompts: list[str], options: dict) -> list[Record]:
    requests = [GenerateRequest.build(p, q, options) for p, q in zip(pictures, prompts, strict=True)]
    results = engine.run(requests)
    assert all(isinstance(result, Record) for result in results), results
    return results


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("model", ["shipped", "grouped"])
def test_every_map_equals_eager_output_attentions(batch, model, engine, eager, grouped, pictures):
    ours, reference = (engine, eager) if model == "shipped" else grouped
    records = run(ours, pictures[:batch], PROMPTS[:batch], EVERYTHING)
    expected = eager_run(reference, ours.loaded.processor, pictures[:batch], PROMPTS[:batch], 24)
    lengths = {len(record.facts.prompt.ids) for record in records}
    assert batch == 1 or len(lengths) > 1, "the batch must need padding"
    for record, wanted in zip(records, expected, strict=True):
        assert [token.id for token in record.tokens] == wanted.tokens
        maps = record.maps_float()
        assert maps.shape == wanted.maps.shape
        assert record.queries[0].step == 0
        np.testing.assert_allclose(maps, wanted.maps, atol=TOLERANCE, rtol=0)
        shares = record.views["selection"].shares
        np.testing.assert_allclose(shares[..., 0], wanted.bos, atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(shares[..., 1], wanted.maps.sum((-1, -2)), atol=1e-5, rtol=0)
        np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-5)


def test_rows_differ_between_heads_so_that_equality_means_something(grouped, pictures):
    maps = run(grouped[0], pictures[:1], PROMPTS[:1], EVERYTHING)[0].maps_float()
    assert np.abs(maps[:, :, 0] - maps[:, :, 1]).max() > 1e-3
    assert np.abs(maps[1:] - maps[:-1]).max() > 1e-3


@pytest.mark.parametrize(("ours", "theirs"), [("heads", 3), ("layers_heads", 2), ("all", 1), ("none", "none")])
def test_reductions_equal_the_older_toolkit(ours, theirs, engine, eager, pictures):
    # A cut answer has no end of sequence, so "all steps" means the same thing on both sides.
    options = {**EVERYTHING, "reduction": ours, "max_new_tokens": 8}
    reference = eager_run(eager, engine.loaded.processor, pictures[:1], PROMPTS[:1], 8)[0]
    record = run(engine, pictures[:1], PROMPTS[:1], options)[0]
    assert record.facts.finish_reason == "length"
    np.testing.assert_allclose(record.maps_float(), toolkit_reduction(reference.maps, theirs), atol=TOLERANCE, rtol=0)
    later = run(engine, pictures[:1], PROMPTS[:1], {**options, "steps": list(range(1, 8))})[0]
    np.testing.assert_allclose(
        later.maps_float(), toolkit_reduction(reference.maps[1:], theirs), atol=TOLERANCE, rtol=0
    )
    by_number = run(engine, pictures[:1], PROMPTS[:1], {**options, "reduction": theirs})[0]
    np.testing.assert_array_equal(by_number.maps_float(), record.maps_float())


def test_mean_over_steps_leaves_the_end_of_sequence_out(engine, pictures):
    per_step = run(engine, pictures[:1], PROMPTS[:1], {**EVERYTHING, "reduction": "layers_heads"})[0]
    overall = run(engine, pictures[:1], PROMPTS[:1], {**EVERYTHING, "reduction": "all"})[0]
    assert per_step.tokens[-1].special
    assert overall.views["selection"].facts.steps == tuple(range(len(per_step.tokens) - 1))
    np.testing.assert_allclose(overall.maps_float(), per_step.maps_float()[:-1].mean(0), atol=TOLERANCE, rtol=0)


def test_selections_are_parts_of_the_whole(engine, pictures):
    whole = run(engine, pictures[:1], PROMPTS[:1], EVERYTHING)[0].maps_float()
    views = [
        {"name": "grid", "layers": [3, 1], "heads": [5, 0], "reduction": "none"},
        {"name": "pairs", "heads": [[2, 4], [0, 5], [2, 1]], "reduction": "none"},
        {"name": "pairs mean", "heads": [[2, 4], [0, 5], [2, 1]], "reduction": "layers_heads"},
        {"name": "layers", "layers": [2], "heads": [1, 7], "reduction": "heads"},
    ]
    record = run(engine, pictures[:1], PROMPTS[:1], {"views": views, "precision": "float32", "max_new_tokens": 24})[0]
    pairs = np.stack([whole[:, 2, 4], whole[:, 0, 5], whole[:, 2, 1]], axis=1)
    maps = {name: view.maps_float() for name, view in record.views.items()}
    np.testing.assert_allclose(maps["grid"], whole[:, [3, 1]][:, :, [5, 0]], atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(maps["pairs"], pairs, atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(maps["pairs mean"], pairs.mean(1), atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(maps["layers"][:, 0], whole[:, 2][:, [1, 7]].mean(1), atol=TOLERANCE, rtol=0)
    steps = run(engine, pictures[:1], PROMPTS[:1], {**EVERYTHING, "steps": [5, 0]})[0]
    assert [query.step for query in steps.queries] == [0, 5]
    np.testing.assert_allclose(steps.maps_float(), whole[[0, 5]], atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_prompt_rows_equal_eager_prefill(engine, eager, pictures):
    options = {**EVERYTHING, "rows": "both", "max_new_tokens": 6}
    records = run(engine, pictures, PROMPTS, options)
    inputs = processor_inputs(engine.loaded.processor, pictures, PROMPTS)
    attentions = eager(**inputs, output_attentions=True, use_cache=False).attentions
    for i, record in enumerate(records):
        asked = [query for query in record.queries if query.kind == "prompt"]
        text = "".join(record.facts.prompt.pieces[query.token] for query in asked).replace("Ġ", " ").strip()
        assert text == PROMPTS[i]
        pad = int((inputs["attention_mask"][i] == 0).sum())
        columns = (inputs["input_ids"][i] == eager.config.image_token_id).nonzero()[:, 0]
        rows = torch.stack([layer[i][:, [pad + q.position for q in asked]][..., columns] for layer in attentions])
        expected = rows.permute(2, 0, 1, 3).numpy()  # [query, layer, head, patch]
        ours = record.maps_float()[len(record.queries) - len(asked) :]
        np.testing.assert_allclose(ours.reshape(expected.shape), expected, atol=TOLERANCE, rtol=0)


@pytest.fixture(scope="module")
def plain() -> LlavaForConditionalGeneration:
    return LlavaForConditionalGeneration.from_pretrained(
        STORE / "llava-shapes", dtype=torch.float32, attn_implementation="sdpa"
    ).eval()


@torch.no_grad()
def test_greedy_tokens_equal_plain_sdpa(engine, plain, pictures):
    inputs = processor_inputs(engine.loaded.processor, pictures, PROMPTS)
    output = plain.generate(**inputs, max_new_tokens=40, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    records = run(engine, pictures, PROMPTS, {"max_new_tokens": 40})
    for record, row in zip(records, output.tolist(), strict=True):
        ids = [token.id for token in record.tokens]
        assert ids == row[: len(ids)]
        assert ids[-1] == plain.generation_config.eos_token_id
    alone = [run(engine, [p], [q], {"max_new_tokens": 40})[0] for p, q in zip(pictures, PROMPTS, strict=True)]
    assert [[t.id for t in r.tokens] for r in alone] == [[t.id for t in r.tokens] for r in records]


@torch.no_grad()
@pytest.mark.parametrize("extra", [{}, {"top_k": 7}, {"top_p": 0.8}, {"top_k": 20, "top_p": 0.9}])
def test_sampling_is_the_same_alone_in_a_batch_and_in_generate(extra, engine, plain, pictures):
    options = {"temperature": 4.0, "seed": 1234, "max_new_tokens": 16, **extra}
    alone = run(engine, pictures[:1], PROMPTS[:1], options)[0]
    others = [
        GenerateRequest.build(pictures[1], PROMPTS[1]),
        GenerateRequest.build(pictures[2], PROMPTS[2], {"temperature": 0.5, "seed": 9}),
    ]
    together = engine.run([others[0], GenerateRequest.build(pictures[0], PROMPTS[0], options), others[1]])[1]
    torch.manual_seed(1234)
    inputs = processor_inputs(engine.loaded.processor, pictures[:1], PROMPTS[:1])
    knobs = {"top_k": 0, "top_p": 1.0, **extra}
    output = plain.generate(**inputs, max_new_tokens=16, do_sample=True, temperature=4.0, **knobs)
    expected = output[0, inputs["input_ids"].shape[1] :].tolist()
    ids = [token.id for token in alone.tokens]
    assert ids == expected[: len(ids)]
    assert [token.id for token in together.tokens] == ids
    greedy = run(engine, pictures[:1], PROMPTS[:1], {"max_new_tokens": 16})[0]
    assert ids != [token.id for token in greedy.tokens], "a hot sample should differ from the greedy answer"


@torch.no_grad()
def test_log_probabilities_are_those_of_the_raw_logits(engine, plain, pictures):
    record = run(engine, pictures[:1], PROMPTS[:1], {"temperature": 2.0, "seed": 5, "max_new_tokens": 6})[0]
    inputs = processor_inputs(engine.loaded.processor, pictures[:1], PROMPTS[:1])
    ids = torch.tensor([[token.id for token in record.tokens]])
    full = torch.cat([inputs["input_ids"], ids], 1)
    logits = plain(input_ids=full, pixel_values=inputs["pixel_values"]).logits[0, inputs["input_ids"].shape[1] - 1 : -1]
    spread = logits.log_softmax(-1)
    for t, token in enumerate(record.tokens):
        assert token.logprob == pytest.approx(float(spread[t, token.id]), abs=1e-4)
        best = spread[t].topk(5)
        assert [c.id for c in token.top] == best.indices.tolist()
        np.testing.assert_allclose([c.logprob for c in token.top], best.values.numpy(), atol=1e-4)


def test_mixed_options_and_bad_requests_share_a_batch_unharmed(engine, pictures):
    mixed = [
        ({"reduction": "none", "layers": [1], "heads": [2], "precision": "float32"}, None),
        ({"layers": [99]}, "options.layers[0]"),
        ({"views": [{"name": "a", "heads": "next-object"}], "precision": "float16", "max_new_tokens": 3}, None),
        ({"max_new_tokens": 100_000}, "options.max_new_tokens"),
        ({"temperature": 1.1, "seed": 3, "precision": "float32"}, None),
    ]
    requests = [GenerateRequest.build(pictures[i % 3], PROMPTS[i % 3], options) for i, (options, _) in enumerate(mixed)]
    requests.insert(1, GenerateRequest.build(b"not an image", "What is it?"))
    results = engine.run(requests)
    assert isinstance(results[1], RequestError)
    assert results[1].field == "image"
    del results[1], requests[1]
    for result, request, (_, field) in zip(results, requests, mixed, strict=True):
        if field:
            assert isinstance(result, RequestError)
            assert result.field == field
            continue
        alone = engine.run([request])[0]
        assert [t.id for t in alone.tokens] == [t.id for t in result.tokens]
        for name, view in alone.views.items():
            bound = view.facts.error_bound + result.views[name].facts.error_bound + TOLERANCE
            np.testing.assert_allclose(result.views[name].maps_float(), view.maps_float(), atol=bound, rtol=0)


@pytest.mark.parametrize("precision", ["uint8", "float16"])
def test_stored_precision_stays_within_its_stated_bound(precision, engine, pictures):
    exact = run(engine, pictures[:1], PROMPTS[:1], EVERYTHING)[0]
    stored = run(engine, pictures[:1], PROMPTS[:1], {**EVERYTHING, "precision": precision})[0]
    view = stored.views["selection"]
    error = np.abs(view.maps_float().astype(np.float64) - exact.maps_float())
    assert 0 < error.max() <= view.facts.error_bound
    if precision == "uint8":
        maps = view.maps_float()
        patches = maps.shape[-2:]
        pairs = zip(maps.reshape(-1, *patches), exact.maps_float().reshape(-1, *patches), strict=True)
        worst = np.max([sum_errors(one, other) for one, other in pairs], axis=0)
        assert (worst <= (1e-3, 5e-3, 1)).all()
        np.testing.assert_allclose(maps.sum((-1, -2)), view.shares[..., 1], atol=1e-3)
    assert view.facts.error_bound < exact.maps_float().max() / 30
