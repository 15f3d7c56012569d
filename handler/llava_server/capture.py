"""Records the queries of chosen positions while a model runs plain sdpa attention.

Flow: `CAPTURE_ATTENTION` is registered with transformers -> every text layer calls it -> stock sdpa does the work and
the `Recorder` of the forward call keeps query vectors: of asked-for positions at prefill, of the one position of every
decode step. Attention rows are computed afterwards from those queries and the key cache (rows.py), so any layer and
head of a finished run can be looked at, and a run costs the same whatever is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

CAPTURE_ATTENTION = "llava_gaze_capture"
"""The implementation's name; transformers gives names containing "flash" or "flex_attention" a special meaning."""

_BLOCK_STEPS = 64


class Recorder(Protocol):
    """What the attention function hands its queries to."""

    def record(self, layer: int, query: torch.Tensor, scaling: float) -> None:
        """Keeps what is wanted of one layer's queries.

        Args:
            layer: 0-based text layer.
            query: [batch, head, position, head_dim], rotated; all positions at prefill, one at a decode step.
            scaling: the factor on q.k.
        """


@dataclass(frozen=True)
class Pick:
    """Where one item's rows lie in a `QueryCapture`; made once, used for every layer.

    Args:
        columns: [c] int64, columns of the prefill's queries.
        steps: [s] int64, indices of decode steps.
        order: [c + s] int64, from (columns, steps) to the order that was asked for.
    """

    columns: torch.Tensor
    steps: torch.Tensor
    order: torch.Tensor


class QueryCapture:
    """The captured queries of one batch.

    Args:
        positions: [batch, P] int64, padded positions to keep at prefill.
        length: padded positions of the prefill; decode steps follow it.
        layers: which text layers to record; None for all.
    """

    def __init__(self, positions: torch.Tensor, length: int, layers: frozenset[int] | None = None) -> None:
        self._layers = layers
        self._positions = positions
        self._columns = [{position: i for i, position in enumerate(row)} for row in positions.tolist()]
        self._last_alone = positions.shape[1] == 1 and bool((positions == length - 1).all())
        self._prefill: dict[int, torch.Tensor] = {}  # layer -> [batch, head, P, head_dim]
        self._steps: dict[int, torch.Tensor] = {}  # layer -> [step, batch, head, head_dim], grown in blocks
        self._counts: dict[int, int] = {}
        self._first_step_position = length
        self.scaling: dict[int, float] = {}

    def record(self, layer: int, query: torch.Tensor, scaling: float) -> None:
        """See `Recorder`; the first call for a layer is its prefill."""
        if self._layers is not None and layer not in self._layers:
            return
        if layer not in self._prefill:
            self.scaling[layer] = scaling
            self._prefill[layer] = self._kept(query)
            self._counts[layer] = 0
            return
        step, buffer = self._counts[layer], self._steps.get(layer)
        if buffer is None or step == buffer.shape[0]:
            block = query.new_empty((_BLOCK_STEPS, query.shape[0], query.shape[1], query.shape[3]))
            buffer = block if buffer is None else torch.cat([buffer, block])
            self._steps[layer] = buffer
        buffer[step].copy_(query[:, :, -1])
        self._counts[layer] = step + 1

    def adopt_steps(self, layer: int, steps: torch.Tensor, first_position: int) -> None:
        """Takes decode steps that were recorded elsewhere.

        Args:
            layer: 0-based text layer.
            steps: [step, batch or more, head, head_dim], not copied.
            first_position: the padded position of `steps[0]`.
        """
        self._steps[layer] = steps
        self._first_step_position = first_position

    def pick(self, item: int, positions: Sequence[int], device: torch.device) -> Pick:
        """Finds an item's rows by their padded positions; every position must have been captured."""
        known = self._columns[item]
        early = [i for i, position in enumerate(positions) if position in known]
        late = [i for i, position in enumerate(positions) if position not in known]
        order = torch.empty(len(positions), dtype=torch.int64)
        order[torch.tensor(early + late, dtype=torch.int64)] = torch.arange(len(positions))
        columns = torch.tensor([known[positions[i]] for i in early], dtype=torch.int64)
        steps = torch.tensor([positions[i] - self._first_step_position for i in late], dtype=torch.int64)
        return Pick(columns.to(device), steps.to(device), order.to(device))

    def queries(self, layer: int, item: int, pick: Pick) -> torch.Tensor:
        """One item's query vectors of one layer, [head, row, head_dim], in the order of the pick."""
        prefill = self._prefill[layer]
        found = prefill[item].index_select(1, pick.columns.to(prefill.device))
        if len(pick.steps):
            steps = self._steps[layer]
            late = steps[:, item].index_select(0, pick.steps.to(steps.device))  # [s, head, head_dim]
            found = torch.cat([found, late.transpose(0, 1)], dim=1)
        return found.index_select(1, pick.order.to(found.device))

    def _kept(self, query: torch.Tensor) -> torch.Tensor:
        if self._last_alone:
            return query[:, :, -1:].clone()
        index = self._positions.to(query.device)[:, None, :, None]  # [batch, 1, P, 1]
        return query.gather(2, index.expand(-1, query.shape[1], -1, query.shape[3]))


def _capture_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    query_capture: Recorder | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Stock sdpa; the recorder travels in the forward call's own arguments, so runs in other threads never mix."""
    if query_capture is not None:
        scaling = kwargs.get("scaling")
        layer = cast(int, module.layer_idx)
        query_capture.record(layer, query, query.shape[-1] ** -0.5 if scaling is None else scaling)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def _capture_mask(*args: Any, **kwargs: Any) -> torch.Tensor | None:
    """Stock sdpa's mask [batch, 1, query, key], but rows that see no key see all of them.

    Only padding has such rows, and nothing reads them. Some kernels answer them with NaN, which the next layer would
    keep as a key: from there it reaches every row, because nothing times NaN is NaN.
    """
    mask: torch.Tensor | None = sdpa_mask(*args, **kwargs)
    if mask is None or mask.dtype != torch.bool or mask.shape[-2] == 1:
        return mask  # a single row sees at least itself
    return mask | ~mask.any(-1, keepdim=True)


def register() -> None:
    """Makes the capture known to transformers; the mask function too, or left padding would be ignored silently."""
    AttentionInterface.register(CAPTURE_ATTENTION, _capture_attention)
    AttentionMaskInterface.register(CAPTURE_ATTENTION, _capture_mask)
