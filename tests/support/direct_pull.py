"""What the method of docs/own-method.md should give, computed slowly and directly with transformers' own model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from integration.reference import processor_inputs
from llava_wire import Record

# The small model is all overhead: threads that wait for each other cost more than they give.
torch.set_num_threads(1)


def direct(model: Any, processor: Any, picture: bytes, record: Record, power: float = 1.0) -> np.ndarray:
    """Pull by hand, one token at a time.

    Returns:
        [row, layer, head, patch].
    """
    found = []
    for weights, slopes, values in slopes_of(model, processor, picture, record, lambda row, token: row[token]):
        image = processor_inputs(processor, [picture], [record.facts.prompt.text])["input_ids"][0]
        pulls = weights * slopes * values.norm(dim=-1) ** power  # [layer, head, key]
        found.append(pulls[..., (image == model.config.image_token_id).nonzero()[:, 0]])
    return torch.stack(found).numpy()


def slopes_of(
    model: Any, processor: Any, picture: bytes, record: Record, number: Callable[[torch.Tensor, int], torch.Tensor]
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """A leaf added to one row of every layer's weights, a whole forward, a backward: once for each token of the answer.

    Args:
        number: what is differentiated, of the row's logits [vocabulary] and its token.

    Yields:
        weights and their gradients [layer, head, key], values [layer, head, key, head_dim].
    """
    prompt = processor_inputs(processor, [picture], [record.facts.prompt.text])
    answer = torch.tensor([[token.id for token in record.tokens]])
    ids = torch.cat([prompt["input_ids"], answer[:, :-1]], 1)
    leaves: dict[int, torch.Tensor] = {}
    seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    row = 0

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **_: Any) -> Any:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        weights = (query @ key.transpose(2, 3) * scaling + mask).softmax(-1)
        leaf = torch.zeros_like(weights[0, :, row]).requires_grad_()
        leaves[module.layer_idx], seen[module.layer_idx] = leaf, (weights[0, :, row].detach(), value[0].detach())
        one = (torch.arange(weights.shape[2]) == row)[None, :, None]
        return ((weights + one * leaf[:, None]) @ value).transpose(1, 2), None

    AttentionInterface.register("direct_pull", attend)
    AttentionMaskInterface.register("direct_pull", eager_mask)
    model.set_attn_implementation({"text_config": "direct_pull"})
    try:
        for step, token in enumerate(answer[0].tolist()):
            row = prompt["input_ids"].shape[1] - 1 + step
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": prompt["pixel_values"]}
            number(model(**inputs, use_cache=False).logits[0, row], token).backward()
            layers = sorted(leaves)
            weights, values = (torch.stack([seen[layer][i] for layer in layers]) for i in (0, 1))
            yield weights, torch.stack([leaves[layer].grad for layer in layers]), values
    finally:
        model.set_attn_implementation({"text_config": "eager"})
        model.zero_grad()
