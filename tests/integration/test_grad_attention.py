"""Attention times gradient: equal to one backward of the whole eager model per token, in every way of running."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from llava_server.engine import Engine
from llava_wire import Record
from support.direct_pull import slopes_of
from support.families import WORKING, tiny_llava
from support.methods import EVERY_HEAD, ask, close, eager_pass, flat, same_in_every_way, same_in_half_precision

OPTIONS = {**EVERY_HEAD, "method": "grad_attention", "max_new_tokens": 8}
TOLERANCE = 2e-4


def margin(logits: torch.Tensor, token: int) -> torch.Tensor:
    """The token's logit less the largest of all others."""
    others = torch.cat([logits[:token], logits[token + 1 :]])
    return logits[token] - others.max()


def direct(model: Any, processor: Any, picture: bytes, record: Record) -> np.ndarray:
    """[row, layer, head, patch], one token at a time."""
    image = eager_pass(model, processor, picture, record).image
    rows = [
        (weights * slopes.clamp(min=0))[..., image]
        for weights, slopes, _ in slopes_of(model, processor, picture, record, margin)
    ]
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("which", ["own heads", "grouped heads"])
def test_every_layer_and_head_equals_the_direct_computation(which, engine, eager, grouped, pictures):
    ours, model = (engine, eager) if which == "own heads" else grouped
    for picture, record in zip(pictures[:2], ask(ours, pictures[:2], OPTIONS), strict=True):
        close(flat(record), direct(model, ours.loaded.processor, picture, record), TOLERANCE)


def test_sampled_words_that_lose_have_a_margin_too(grouped, pictures):
    ours, model = grouped
    [record] = ask(ours, pictures[:1], {**OPTIONS, "temperature": 3.0, "seed": 2, "max_new_tokens": 6})
    assert any(token.id != token.top[0].id for token in record.tokens)
    close(flat(record), direct(model, ours.loaded.processor, pictures[0], record), TOLERANCE)


@pytest.mark.parametrize("family", ["mistral, window", "qwen3"])
def test_other_text_models_with_grouped_heads(family, pictures):
    model, processor = tiny_llava(WORKING[family])
    ours = Engine.from_model(model, processor)
    [record] = ask(ours, pictures[:1], {**OPTIONS, "max_new_tokens": 4})
    model.set_attn_implementation({"text_config": "eager"})
    close(flat(record), direct(model, processor, pictures[0], record), TOLERANCE)


def test_means_and_the_quantity(engine, pictures):
    [whole] = ask(engine, pictures[:1], OPTIONS)
    [mean] = ask(engine, pictures[:1], {**OPTIONS, "reduction": "layers_heads"})
    close(flat(mean), flat(whole).mean((1, 2)))
    [view] = mean.views.values()
    assert view.shares is None
    assert (view.quantity.unit, view.quantity.signed, view.quantity.additive) == ("logit", False, False)


def test_a_batch_a_replay_and_static_buffers_give_the_same(engine, static_engine, pictures):
    same_in_every_way(engine, static_engine, pictures, {**OPTIONS, "max_new_tokens": 24}, TOLERANCE)


def test_half_precision(half_engine, engine, pictures):
    same_in_half_precision(half_engine, engine, pictures, {**OPTIONS, "reduction": "layers_heads"})
