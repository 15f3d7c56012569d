"""Text models that are a plain stack of layers of one shape: what plans and estimates need to know."""

from __future__ import annotations

from typing import Any

from llava_doors.family import ModelFacts


def text_facts(text: Any, dtype: Any) -> ModelFacts:
    """The shape of a text model from its configuration; no weights needed.

    Args:
        text: a text model's configuration.
        dtype: of the weights.

    Raises:
        Exception: of many kinds, from configurations of layers that differ.
    """
    intermediate = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    # At one time: the residual stream, its norm (float32), queries, keys, values and their rotations; or the MLP.
    token = dtype.itemsize * (text.hidden_size * 8 + intermediate * 3) + text.hidden_size * 8
    return ModelFacts(
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or text.num_attention_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        context=text.max_position_embeddings,
        cache_bytes_per_value=dtype.itemsize,
        token_bytes=token,
        score_bytes=text.vocab_size * (dtype.itemsize + 8),  # logits, in float32, and their logarithms
        width=text.hidden_size,
        vocabulary=text.vocab_size,
    )
