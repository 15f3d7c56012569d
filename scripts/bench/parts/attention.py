"""Paired timings of one layer's attention alone at prefill: what is left when the products with weights are taken away.

Flow: random q, k, v of one layer -> the attention function of two ways in random order (ours with the row of the last
position) -> `Series` of seconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from transformers import AttentionInterface, DynamicCache, LlamaForCausalLM
from transformers.models.llama.modeling_llama import eager_attention_forward

from bench.parts.timing import Series, timed
from bench.parts.ways import Answer, Way


def attention_pairs(
    model: LlamaForCausalLM, base: Way, way: Way, prompt: int, pairs: int, rng: random.Random
) -> Series:
    """Times pairs of one layer's attention over a whole prompt; the first pair does not count.

    Args:
        model: gives the layer; its views may name layer 0 alone.
        base, way: the two ways.
        prompt: query positions and keys.
        pairs: how many.
        rng: decides the order in each pair.
    """
    config, device = model.config, model.device
    shape = (1, config.num_attention_heads, prompt, config.head_dim)
    query, key, value = (torch.randn(shape, dtype=model.dtype, device=device) for _ in range(3))
    hidden = torch.ones((prompt, prompt), dtype=torch.bool, device=device).triu(1)
    mask = torch.zeros((1, 1, prompt, prompt), dtype=model.dtype, device=device).masked_fill(hidden, float("-inf"))
    series = Series()
    for number in range(pairs + 1):
        order = [(series.base, base), (series.way, way)]
        rng.shuffle(order)
        for seconds, chosen in order:
            spent = timed(_call(model, chosen, query, key, value, mask), device)
            if number:
                seconds.append(spent)
    return series


def _call(
    model: LlamaForCausalLM,
    way: Way,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
) -> Callable[[], None]:
    module = model.model.layers[0].self_attn
    cache = DynamicCache()
    cache.update(key, value, 0)
    answer = Answer(model, way, query.shape[2], cache)
    eager = way.attention == "eager"
    function = eager_attention_forward if eager else AttentionInterface()[way.attention]

    def call() -> None:
        # Without a mask sdpa takes its own causal path, as it does in a model when nothing is padded.
        extra = {} if answer.capture is None else {"query_capture": answer.capture}
        _, weights = function(module, query, key, value, mask if eager else None, scaling=module.scaling, **extra)
        answer.kept.append(weights)
        answer.finish()

    return call
