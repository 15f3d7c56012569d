"""Random text models at real widths, and key caches at real lengths.

Flow: "4096x32x4" -> LlamaForCausalLM with random weights -> random keys and values of a prompt.

The vision tower is left out: it runs once, and the same for every way.
"""

from __future__ import annotations

import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

TEXT_TOKENS = 40
"""Tokens of the prompt that are not image tokens: 616 = 576 + 40 (LLaVA-1.5), 2,920 = 5 x 576 + 40 (LLaVA-NeXT)."""


def intermediate_of(width: int) -> int:
    """The size of the feed-forward layers of a Llama of this width."""
    return int(width * 2.6875)


def text_model(shape: str, dtype: torch.dtype, device: torch.device) -> LlamaForCausalLM:
    """A Llama with random weights.

    Args:
        shape: "width x heads x layers", such as "4096x32x4".
        dtype: of weights, cache and queries.
        device: where it is made.
    """
    width, heads, layers = (int(part) for part in shape.split("x"))
    config = LlamaConfig(
        hidden_size=width,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        num_hidden_layers=layers,
        intermediate_size=intermediate_of(width),
        vocab_size=1024,
        max_position_embeddings=8192,
    )
    torch.manual_seed(0)
    with device:
        model = LlamaForCausalLM._from_config(config, dtype=dtype)
    return model.eval()


class PromptCache:
    """Keys and values of a prompt, random numbers, from which any number of caches can be started.

    Args:
        model: the model they are for.
        length: positions in the cache.
    """

    def __init__(self, model: LlamaForCausalLM, length: int) -> None:
        config = model.config
        shape = (1, config.num_key_value_heads, length, config.head_dim)
        self._tensors = [
            tuple(torch.randn(shape, dtype=model.dtype, device=model.device) for _ in range(2))
            for _ in range(config.num_hidden_layers)
        ]

    def start(self) -> DynamicCache:
        """A new cache with this content."""
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self._tensors):
            cache.update(keys, values, layer)
        return cache
