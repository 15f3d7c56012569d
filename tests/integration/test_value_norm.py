"""Value norm: equal to a slow direct computation, the reference values, and itself in every way of running."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from support.families import HEADS, KV_HEADS, WORKING, tiny_llava
from support.methods import (
    EVERY_HEAD,
    Pass,
    ask,
    check_reference,
    close,
    eager_pass,
    flat,
    same_in_every_way,
    same_in_half_precision,
)

OPTIONS = {**EVERY_HEAD, "method": "value_norm"}


@torch.no_grad()
def direct(model: Any, seen: Pass) -> np.ndarray:
    """[row, layer, head, patch]: every head's values by hand from hidden states, projected one head at a time."""
    found = torch.zeros(seen.patches.shape)
    for number, layer in enumerate(model.get_decoder().layers):
        attention, heads = layer.self_attn, found.shape[2]
        states = layer.input_layernorm(seen.hidden[number][: seen.attention.shape[-1]])
        values = attention.v_proj(states)[seen.image].unflatten(1, (-1, attention.head_dim))  # [patch, kv head, dim]
        for head in range(heads):
            part = attention.o_proj.weight[:, head * attention.head_dim : (head + 1) * attention.head_dim]
            written = values[:, head // (heads // values.shape[1])] @ part.T  # [patch, width]
            found[:, number, head] = seen.patches[:, number, head] * written.norm(dim=-1)
    return found.numpy()


@pytest.mark.parametrize("which", ["own heads", "grouped heads"])
def test_every_layer_and_head_equals_the_direct_computation(which, engine, eager, grouped, pictures):
    ours, model = (engine, eager) if which == "own heads" else grouped
    for picture, record in zip(pictures, ask(ours, pictures, OPTIONS), strict=True):
        close(flat(record), direct(model, eager_pass(model, ours.loaded.processor, picture, record)))


@pytest.mark.parametrize("family", ["llama", "mistral, window", "qwen3", "gemma"])
def test_other_text_models_with_grouped_heads(family, pictures):
    assert HEADS > KV_HEADS
    model, processor = tiny_llava(WORKING[family])
    ours = Engine.from_model(model, processor)
    [record] = ask(ours, pictures[:1], {**OPTIONS, "max_new_tokens": 5})
    model.set_attn_implementation({"text_config": "eager"})
    close(flat(record), direct(model, eager_pass(model, processor, pictures[0], record)))


def test_means_are_means_of_the_heads_and_no_shares(engine, pictures):
    [whole] = ask(engine, pictures[:1], OPTIONS)
    for reduction, axes in (("heads", 2), ("layers_heads", (1, 2))):
        [mean] = ask(engine, pictures[:1], {**OPTIONS, "reduction": reduction})
        close(flat(mean), flat(whole).mean(axes))
        [view] = mean.views.values()
        assert view.shares is None
        assert (view.quantity.unit, view.quantity.is_share) == ("length", False)


def test_the_reference_values(engine):
    check_reference(engine, "value_norm")


def test_a_batch_a_replay_and_static_buffers_give_the_same(engine, static_engine, pictures):
    same_in_every_way(engine, static_engine, pictures, OPTIONS)


def test_half_precision(half_engine, engine, pictures):
    same_in_half_precision(half_engine, engine, pictures, OPTIONS)


def test_a_stream_brings_the_maps_of_the_record(engine, pictures):
    options = {**OPTIONS, "reduction": "layers_heads", "rows": "both"}
    *parts, record = engine.stream(GenerateRequest.build(pictures[0], "Describe the image.", options))
    for part in parts:
        [view] = part.views.values()
        close(view.patches_float()[None], flat(record)[part.step : part.step + 1])
