"""Contributions against keys taken away one at a time, for many kinds of text models; what is not linear is refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf

from integration.reference import processor_inputs
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record, RequestError, decode, encode
from support.direct_contributions import Direct, direct
from support.families import WORKING, lively, text_model, tiny_llava
from support.pictures import scene_bytes

PICTURE = scene_bytes(256, 192, seed=1)
QUESTION = "Describe the image."
ASKED = {"method": "contributions", "precision": "float32", "max_new_tokens": 4, "rows": "both"}
UNGATED = {
    "starcoder2, window": WORKING["starcoder2, window"],
    "starcoder2, relu": text_model(tf.Starcoder2Config, hidden_act="relu"),
    "gpt-neox": WORKING["gpt-neox"],
}
# A router of one expert gives it the weight 1, but the direct computation cannot hold which one.
GATED = {name: build for name, build in WORKING.items() if name not in UNGATED and not name.startswith("mixtral")} | {
    "cohere": text_model(tf.CohereConfig),
    "gemma 3": text_model(tf.Gemma3TextConfig),
    "olmo 2": text_model(tf.Olmo2Config),
}
WITH_BIASES = {"qwen2, window in one layer", *UNGATED}
TOLERANCE = 1e-4


def both(build: Any, **options: Any) -> tuple[Any, Any, Any]:
    """The engine's answer, and transformers' own model in float64 with its processor."""
    model, processor = tiny_llava(build)
    reference = copy.deepcopy(lively(model)).double().eval()
    reference.set_attn_implementation({"text_config": "eager"})
    [found] = Engine.from_model(model, processor).run([GenerateRequest.build(PICTURE, QUESTION, {**ASKED, **options})])
    return found, reference, processor


def check(record: Record, wanted: Direct) -> None:
    """Compares maps and parts of every row."""
    [view] = decode(encode(record)).views.values()
    found = view.maps_float().reshape(len(record.queries), -1)
    np.testing.assert_allclose(found, wanted.patches, rtol=0, atol=TOLERANCE * np.abs(wanted.patches).max())
    parts = wanted.parts(view.facts.parts)
    np.testing.assert_allclose(view.parts, parts, rtol=0, atol=TOLERANCE * np.abs(parts).max())
    np.testing.assert_allclose(view.parts.sum(1), wanted.total, rtol=0, atol=1e-3 * np.abs(wanted.total).max())


@pytest.mark.parametrize("family", [*GATED, *UNGATED])
def test_taking_each_key_away_gives_the_same(family: str) -> None:
    record, reference, processor = both({**GATED, **UNGATED}[family])
    assert isinstance(record, Record), record
    assert {query.kind for query in record.queries} == {"prompt", "answer"}
    wanted = direct(reference, processor, PICTURE, record, family in GATED)
    check(record, wanted)
    [view] = record.views.values()
    assert ("biases" in view.facts.parts) == (family in WITH_BIASES)
    assert (np.abs(wanted.biases).max() > 0.01) == (family in WITH_BIASES)
    assert np.abs(wanted.patches).max() > 0.01


def test_a_rival_takes_the_mean_s_place() -> None:
    record, reference, processor = both(WORKING["qwen2, window in one layer"], parameters={"rival": "red"})
    assert isinstance(record, Record), record
    [red] = processor.tokenizer.encode(" red", add_special_tokens=False)
    check(record, direct(reference, processor, PICTURE, record, True, [red] * len(record.queries)))


def test_the_runner_up_is_the_second_of_each_row() -> None:
    record, reference, processor = both(WORKING["qwen3"], parameters={"rival": "runner-up"}, rows="answer")
    assert isinstance(record, Record), record
    seconds = [token.top[1].id for token in record.tokens]
    check(record, direct(reference, processor, PICTURE, record, True, seconds))


class Capped(torch.nn.Linear):
    """Logits with a soft cap, as some models have it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * torch.tanh(super().forward(x) / 2)


def capped(model: Any) -> None:
    head = model.lm_head
    model.lm_head = Capped(head.in_features, head.out_features, bias=False)
    model.lm_head.weight = head.weight


@pytest.mark.parametrize(
    ("build", "change", "kind"),
    [
        (text_model(tf.MixtralConfig, num_local_experts=4, num_experts_per_tok=2), None, "mixtral"),
        (text_model(tf.LlamaConfig), capped, "llama"),
        (text_model(tf.LlamaConfig, hidden_act="relu2"), None, "llama"),
        (text_model(tf.Qwen2Config, hidden_act="gelu_new"), None, "qwen2"),
        (text_model(tf.Starcoder2Config, hidden_act="quick_gelu"), None, "starcoder2"),
    ],
    ids=["two experts", "soft cap", "gated relu2", "gated gelu_new", "ungated quick_gelu"],
)
@pytest.mark.parametrize("rows", ["answer", "both"])
def test_a_model_that_is_not_linear_is_refused(build: Any, change: Any, kind: str, rows: str) -> None:
    model, processor = tiny_llava(build)
    lively(model)
    if change:
        change(model)
    engine = Engine.from_model(model, processor)
    asked = [GenerateRequest.build(PICTURE, QUESTION, {**ASKED, "rows": rows}), GenerateRequest.build(PICTURE, "Why?")]
    refused, answered = engine.run(asked)
    assert isinstance(refused, RequestError)
    assert (refused.code, refused.field) == ("invalid", "options.method")
    assert f"for text model '{kind}'" in refused.message
    assert "it is not linear with attention, norms and gates held; ask for another method" in refused.message
    assert isinstance(answered, Record), answered


def test_the_prompt_ends_where_the_reference_says() -> None:
    """The first answer row predicts from the prompt's last token, so nothing of it is the answer's."""
    record, _, processor = both(WORKING["llama"], rows="answer")
    inputs = processor_inputs(processor, [PICTURE], [QUESTION])
    assert record.queries[0].position == inputs["input_ids"].shape[1] - 1
    [view] = record.views.values()
    answer = view.parts[:, view.facts.parts.index("answer")]
    # The second row's only token of the answer is its own.
    assert not answer[:2].any()
    assert answer[2:].all()
