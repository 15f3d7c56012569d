"""A model's shape from its configuration alone: what plans and estimates need to know.

Flow: LlavaConfig -> refused where its image tokens are no patch grid -> `ModelFacts`.
"""

from __future__ import annotations

from typing import Any

import torch

from llava_server.ask.plan import ModelFacts
from llava_server.ask.settings import SettingsError
from llava_server.load.vision import patch_grid


def facts_of(config: Any, dtype: torch.dtype) -> ModelFacts:
    """The shape of a model from its LlavaConfig; no weights needed.

    Raises:
        SettingsError: for a text model whose layers are no plain stack of one shape.
    """
    try:
        return _facts_of(config, dtype)
    except SettingsError:
        raise
    except Exception as error:  # configurations of layers that differ raise many kinds
        raise SettingsError(
            f"config: got a {config.text_config.model_type} text model and a {config.vision_config.model_type} vision "
            f"tower whose shape cannot be read ({str(error)[:160]}), allowed layers that are all alike"
        ) from error


def _facts_of(config: Any, dtype: torch.dtype) -> ModelFacts:
    text, vision = config.text_config, config.vision_config
    grid = patch_grid(config)
    intermediate = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    # At one time: the residual stream, its norm (float32), queries, keys, values and their rotations; or the MLP.
    token = dtype.itemsize * (text.hidden_size * 8 + intermediate * 3) + text.hidden_size * 8
    # The vision tower keeps the hidden states of all its layers.
    patch = dtype.itemsize * (
        vision.hidden_size * (vision.num_hidden_layers + 9) + vision.intermediate_size * 2 + text.hidden_size * 3
    )
    pixels = 3 * vision.image_size**2 * (4 + dtype.itemsize)
    return ModelFacts(
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or text.num_attention_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        rows=grid.rows,
        cols=grid.cols,
        context=text.max_position_embeddings,
        cache_bytes_per_value=dtype.itemsize,
        token_bytes=token,
        picture_bytes=pixels + (grid.rows * grid.cols + 1) * patch,
        score_bytes=text.vocab_size * (dtype.itemsize + 8),  # logits, in float32, and their logarithms
        lead_tokens=grid.lead,
        width=text.hidden_size,
        vocabulary=text.vocab_size,
    )


def check_config(config: Any) -> None:
    """Refuses models that are no LLaVA, or whose image tokens do not map one to one to a patch grid.

    Raises:
        SettingsError: naming the key.
    """
    if config.model_type != "llava":
        raise SettingsError(f"config.model_type: got {config.model_type!r}, allowed 'llava'")
    patch_grid(config)
