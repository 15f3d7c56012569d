"""Contributions on every way that an answer takes: batches, replays, static buffers, half weights, several views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlavaForConditionalGeneration

from integration.conftest import STORE
from integration.reference import processor_inputs
from llava_doors.methods import contributions
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record, View, decode, encode
from support.families import WORKING, lively, tiny_llava
from support.held import watched

PROMPTS = ["Describe the image.", "What colour is the square?", "Is there a red circle in the image?"]
ASKED = {"method": "contributions", "precision": "float32"}


def ask(engine: Engine, pictures: list[bytes], options: dict[str, Any]) -> list[Record]:
    asked = {"max_new_tokens": 8, **options}
    requests = [GenerateRequest.build(p, q, asked) for p, q in zip(pictures, PROMPTS, strict=False)]
    results = engine.run(requests)
    assert all(isinstance(result, Record) for result in results), results
    return [decode(encode(result)) for result in results]


def only(record: Record) -> View:
    [view] = record.views.values()
    return view


def same(ours: View, theirs: View, relative: float = 1e-4) -> None:
    assert ours.facts.parts == theirs.facts.parts
    for one, other in ((ours.patches_float(), theirs.patches_float()), (ours.parts, theirs.parts)):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=0, atol=relative * np.abs(other).max())


def centred(model: Any, processor: Any, picture: bytes, record: Record) -> np.ndarray:
    """[row]: the logit of each word less the mean logit, by a plain forward of transformers' own."""
    inputs = processor_inputs(processor, [picture], [record.facts.prompt.text])
    words = torch.tensor([[token.id for token in record.tokens]])
    ids = torch.cat([inputs["input_ids"], words[:, :-1]], 1)
    with torch.no_grad():
        logits = model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits[0, -words.shape[1] :].double()
    return (logits.gather(1, words.T)[:, 0] - logits.mean(1)).numpy()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_parts_sum_to_the_centred_logit(dtype, engine, pictures, monkeypatch):
    named = {"name": engine.settings.name, "revision": engine.settings.revision}
    served = Engine.load(STORE / "llava-shapes", device="cpu", dtype=dtype, settings=named)
    margins: list[np.ndarray] = []
    real = contributions._check

    def watched(seen: Any, replay: Any, margin: torch.Tensor, *rest: Any) -> None:
        margins.append(margin.detach().numpy())
        real(seen, replay, margin, *rest)

    monkeypatch.setattr(contributions, "_check", watched)
    # The very weights, rounded as they are served, in float32.
    plain = LlavaForConditionalGeneration.from_pretrained(
        STORE / "llava-shapes", dtype=getattr(torch, dtype), attn_implementation="eager"
    ).float()
    for record, margin, picture in zip(ask(served, pictures, ASKED), margins, pictures, strict=True):
        view = only(record)
        assert view.facts.parts == ("image", "prompt", "answer", "itself")
        np.testing.assert_allclose(view.parts.sum(1), margin, rtol=1e-3)
        # Half precision lives on in the cache that the rows read: keys and values of the run itself.
        wanted = centred(plain, served.loaded.processor, picture, record)
        np.testing.assert_allclose(margin, wanted, rtol=1e-3 if dtype == "float32" else 0.03)
        np.testing.assert_allclose(view.patches_float().sum(1), view.parts[:, 0], rtol=1e-3, atol=1e-3)


def test_batches_replays_and_static_buffers_give_the_same(engine, static_engine, pictures):
    together = ask(engine, pictures, ASKED)
    for picture, prompt, record in zip(pictures, PROMPTS, together, strict=True):
        [alone] = engine.run([GenerateRequest.build(picture, prompt, {**ASKED, "max_new_tokens": 8})])
        same(only(record), only(alone))
        [again] = engine.run([GenerateRequest.replay(alone, ASKED, picture)])
        assert isinstance(again, Record), again
        same(only(again), only(alone))
    static = ask(static_engine, pictures, ASKED)
    assert static[0].run["decoder"] in ("static", "compiled")
    for one, other in zip(static, together, strict=True):
        same(only(one), only(other))
    [single] = ask(static_engine, pictures[:1], ASKED)
    same(only(single), only(together[0]))


def test_grouped_heads_on_static_buffers(grouped, static_grouped, pictures):
    for one, other in zip(ask(static_grouped[0], pictures, ASKED), ask(grouped[0], pictures, ASKED), strict=True):
        same(only(one), only(other))


def test_question_rows_and_the_mean_of_an_answer(engine, pictures):
    [both] = ask(engine, pictures[:1], {**ASKED, "rows": "both"})
    [mean] = ask(engine, pictures[:1], {**ASKED, "reduction": "all"})
    view, whole = only(both), only(mean)
    kinds = [query.kind for query in both.queries]
    assert {"prompt", "answer"} == set(kinds)
    assert whole.axes == ("patch",)
    ordinary = [
        row for row, query in enumerate(both.queries) if query.kind == "answer" and not both.tokens[query.token].special
    ]
    np.testing.assert_allclose(whole.maps_float(), view.maps_float()[ordinary].mean(0), atol=1e-4)
    np.testing.assert_allclose(whole.parts, view.parts[ordinary].mean(0), atol=1e-4)
    asked = [row for row, kind in enumerate(kinds) if kind == "prompt"]
    assert not view.parts[asked, view.facts.parts.index("answer")].any()
    assert view.parts[asked, view.facts.parts.index("image")].all()
    [question] = ask(engine, pictures[:1], {**ASKED, "rows": "prompt"})
    np.testing.assert_allclose(only(question).parts, view.parts[asked], atol=1e-4)


def test_views_of_one_request_equal_each_alone(engine, pictures):
    rival = {"method": "contributions", "parameters": {"rival": "red"}}
    views = {
        "plain": {"method": "contributions"}, "rival": rival, "attention": {"layers": "all", "heads": "all"},
        "answer": {"method": "contributions", "reduction": "all"},
    }  # fmt: skip
    asked = {"views": [{"name": name, **view} for name, view in views.items()], "precision": "float32"}
    for record, picture, prompt in zip(ask(engine, pictures, asked), pictures, PROMPTS, strict=True):
        for name, view in views.items():
            options = {"precision": "float32", "max_new_tokens": 8, **view}
            [alone] = engine.run([GenerateRequest.build(picture, prompt, options)])
            found, wanted = record.views[name], only(alone)
            if name == "attention":
                assert found.parts is None
                np.testing.assert_allclose(found.patches_float(), wanted.patches_float(), atol=1e-6)
            else:
                same(found, wanted)
        assert np.abs(record.views["rival"].parts - record.views["plain"].parts).max() > 1


@pytest.mark.parametrize("rows", ["answer", "both"])
@pytest.mark.parametrize("family", ["shapes", "llama", "gpt-neox", "starcoder2, window"])
def test_the_estimate_bounds_what_is_held(family, rows, engine, pictures, monkeypatch):
    served = engine if family == "shapes" else Engine.from_model(*_with_lively_text(family))
    held = watched(monkeypatch)
    request = GenerateRequest.build(pictures[0], PROMPTS[0], {**ASKED, "max_new_tokens": 40, "rows": rows})
    [record] = served.run([request])
    assert isinstance(record, Record), record
    estimate, facts = served.estimate(request), served.loaded.facts
    # The gradients of what all heads read are there at one time: the measure is no empty one.
    assert held[0] > 4 * len(record.queries) * facts.heads * facts.head_dim * facts.layers
    assert held[0] <= estimate.looking_bytes + estimate.maps_bytes
    plain = served.estimate(GenerateRequest.build(pictures[0], PROMPTS[0], {"max_new_tokens": 40, "rows": rows}))
    assert plain.looking_bytes == 0


def _with_lively_text(family: str) -> tuple[Any, Any]:
    model, processor = tiny_llava(WORKING[family])
    return lively(model), processor
