"""Records the queries of chosen positions while a model runs plain sdpa attention.

Flow: `CAPTURE_ATTENTION` is registered with transformers -> every text layer calls it -> stock sdpa does the work and
`QueryCapture` keeps the query vectors of the last position (and, at prefill, of asked-for positions). Attention rows
are computed afterwards from those queries and the key cache (rows.py), so any layer and head of a finished run can be
looked at, and a run costs the same whatever is asked for.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

CAPTURE_ATTENTION = "llava_gaze_capture"
"""The implementation's name; transformers gives names containing "flash" or "flex_attention" a special meaning."""

_BLOCK_STEPS = 64


class QueryCapture:
    """The captured queries of one batch.

    Args:
        layers: which text layers to record.
        prompt_positions: [batch, P] int64, padded positions to keep at prefill besides the last; P may be 0.
    """

    def __init__(self, layers: frozenset[int], prompt_positions: torch.Tensor | None = None) -> None:
        self._layers = layers
        self._prompt_positions = prompt_positions
        self._answer: dict[int, torch.Tensor] = {}  # layer -> [step, batch, head, head_dim], grown in blocks
        self._prompt: dict[int, torch.Tensor] = {}  # layer -> [batch, head, P, head_dim]
        self._steps: dict[int, int] = {}
        self.scaling: dict[int, float] = {}

    def record(self, layer: int, query: torch.Tensor, scaling: float) -> None:
        """Keeps what is wanted of one layer's queries.

        Args:
            layer: 0-based text layer.
            query: [batch, head, position, head_dim], rotated; all positions at prefill, one at a decode step.
            scaling: the factor on q.k.
        """
        if layer not in self._layers:
            return
        step = self._steps.get(layer, 0)
        if step == 0:
            self.scaling[layer] = scaling
            if self._prompt_positions is not None:
                index = self._prompt_positions.to(query.device)[:, None, :, None]  # [batch, 1, P, 1]
                index = index.expand(-1, query.shape[1], -1, query.shape[3])
                self._prompt[layer] = query.gather(2, index)
        buffer = self._answer.get(layer)
        if buffer is None or step == buffer.shape[0]:
            block = query.new_empty((_BLOCK_STEPS, query.shape[0], query.shape[1], query.shape[3]))
            buffer = block if buffer is None else torch.cat([buffer, block])
            self._answer[layer] = buffer
        buffer[step].copy_(query[:, :, -1])
        self._steps[layer] = step + 1

    def answer_queries(self, layer: int, item: int, steps: torch.Tensor) -> torch.Tensor:
        """Queries [head, step, head_dim] of one item's answer rows at the given steps [step] int64."""
        return self._answer[layer][steps.to(self._answer[layer].device), item].transpose(0, 1)

    def prompt_queries(self, layer: int, item: int, count: int) -> torch.Tensor:
        """Queries [head, count, head_dim] of one item's first `count` prompt positions."""
        return self._prompt[layer][item, :, :count]


def _capture_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    query_capture: QueryCapture | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Stock sdpa; the capture travels in the forward call's own arguments, so runs in other threads never mix."""
    if query_capture is not None:
        scaling = kwargs.get("scaling")
        layer = cast(int, module.layer_idx)
        query_capture.record(layer, query, query.shape[-1] ** -0.5 if scaling is None else scaling)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def register() -> None:
    """Makes the capture known to transformers; the mask function too, or left padding would be ignored silently."""
    AttentionInterface.register(CAPTURE_ATTENTION, _capture_attention)
    AttentionMaskInterface.register(CAPTURE_ATTENTION, sdpa_mask)
