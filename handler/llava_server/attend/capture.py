"""Records the queries of chosen positions, and which keys each could see, while a model runs plain sdpa attention.

Flow: `CAPTURE_ATTENTION` is registered with transformers -> every text layer calls it -> stock sdpa does the work and
the `Recorder` of the forward call keeps query vectors and their rows of the mask: of asked-for positions at prefill, of
the one position of every decode step. Attention rows are computed afterwards from those and the key cache (rows.py), so
any layer and head of a finished run can be looked at, and a run costs the same whatever is asked for.

Which keys a row sees is what the layer's own mask said in that call, not what a configuration promises: windows, chunks
and padding need no knowledge of architectures. Keys that are no longer in the cache end the run with an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from llava_server.attend.rows import RowLayout

CAPTURE_ATTENTION = "llava_gaze_capture"
"""The implementation's name; transformers gives names containing "flash" or "flex_attention" a special meaning."""

_BLOCK_STEPS = 64


class Recorder(Protocol):
    """What the attention function hands its queries to."""

    def record(self, call: AttentionCall) -> None:
        """Keeps what is wanted of one layer's queries."""


@dataclass(frozen=True)
class AttentionCall:
    """One layer's attention as the model asked for it.

    Args:
        module: the attention module.
        query: [batch, head, position, head_dim], rotated; all positions at prefill, one at a decode step.
        key: [batch, kv head, key, head_dim], all that the layer reads.
        mask: [batch or 1, 1, position, key] bool, which keys each position sees; None when each sees all up to itself.
        options: what else the layer hands to its attention, "scaling" among it.
    """

    module: torch.nn.Module
    query: torch.Tensor
    key: torch.Tensor
    mask: torch.Tensor | None
    options: Mapping[str, Any]

    @property
    def layer(self) -> int:
        """The 0-based text layer."""
        return cast(int, self.module.layer_idx)

    @property
    def scaling(self) -> float:
        """The factor on q.k."""
        given = self.options.get("scaling")
        return self.query.shape[-1] ** -0.5 if given is None else float(given)


Attend = Callable[[AttentionCall, torch.Tensor], torch.Tensor]
"""One layer's attention, its values [batch, kv head, key, head_dim] -> what is read, [batch, position, head, dim]."""


@dataclass(frozen=True)
class Pick:
    """Where one item's rows lie in a `QueryCapture`; made once, used for every layer.

    Args:
        columns: [c] int64, columns of the prefill's queries.
        steps: [s] int64, indices of decode steps.
        order: [c + s] int64, from (columns, steps) to the order that was asked for.
        early, late: the rows that come from columns and from steps, in their order, on the host.
        numbers: the indices of decode steps on the host.
    """

    columns: torch.Tensor
    steps: torch.Tensor
    order: torch.Tensor
    early: tuple[int, ...]
    late: tuple[int, ...]
    numbers: tuple[int, ...]


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
        self._length = length
        self._first_step_position = length
        # What each layer's rows could see: per layer the kept rows of the prefill's mask and each step's mask, or None.
        # Layers share masks, and so these tensors; `_masks` finds the kept rows of a mask again while the prefill runs.
        self._sight: dict[int, list[torch.Tensor | None]] = {}
        self._masks: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._read: dict[int, torch.Tensor] = {}  # the keys of each layer's last call
        self.scaling: dict[int, float] = {}

    def record(self, call: AttentionCall) -> None:
        """See `Recorder`; the first call for a layer is its prefill.

        Raises:
            RuntimeError: the layer reads fewer keys than there are, or has a mask that is no mask: rows made of the
                cache would be wrong.
        """
        layer, query, mask = call.layer, call.query, call.mask
        if self._layers is not None and layer not in self._layers:
            return
        first = layer not in self._prefill
        expected = self._length if first else self._length + self._counts[layer] + 1
        if call.key.shape[2] != expected:
            raise RuntimeError(f"layer {layer}: got attention over {call.key.shape[2]} keys, expected all {expected}")
        if mask is not None and (mask.dtype != torch.bool or mask.shape[1] != 1):
            raise RuntimeError(
                f"layer {layer}: got a mask of {mask.dtype} for {mask.shape[1]} heads, expected bool for all together"
            )
        self._read[layer] = call.key
        if first:
            self.scaling[layer] = call.scaling
            self._prefill[layer] = self._kept(query)
            self._sight[layer] = [None if mask is None else self._kept_mask(mask)]
            self._counts[layer] = 0
            return
        self._masks.clear()
        self._sight[layer].append(None if mask is None else mask[:, 0, -1])
        step, buffer = self._counts[layer], self._steps.get(layer)
        if buffer is None or step == buffer.shape[0]:
            block = query.new_empty((_BLOCK_STEPS, query.shape[0], query.shape[1], query.shape[3]))
            buffer = block if buffer is None else torch.cat([buffer, block])
            self._steps[layer] = buffer
        buffer[step].copy_(query[:, :, -1])
        self._counts[layer] = step + 1

    def check_keys(self, keys: Sequence[torch.Tensor]) -> None:
        """Holds the cache against what the layers read, which is the very same tensor in ordinary models.

        Args:
            keys: per layer [batch, kv head, padded key, head_dim], the cached keys.

        Raises:
            RuntimeError: a layer read other keys: rows made of the cache would be wrong.
        """
        for layer, read in self._read.items():
            if read is not keys[layer] and not (read.shape == keys[layer].shape and torch.equal(read, keys[layer])):
                raise RuntimeError(f"layer {layer}: got attention over other keys than its cache holds, expected those")
        self._read.clear()

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
        numbers = tuple(positions[i] - self._first_step_position for i in late)
        steps = torch.tensor(numbers, dtype=torch.int64)
        return Pick(columns.to(device), steps.to(device), order.to(device), tuple(early), tuple(late), numbers)

    def queries(self, layer: int, item: int, pick: Pick) -> torch.Tensor:
        """One item's query vectors of one layer, [head, row, head_dim], in the order of the pick."""
        prefill = self._prefill[layer]
        found = prefill[item].index_select(1, pick.columns.to(prefill.device))
        if len(pick.steps):
            steps = self._steps[layer]
            late = steps[:, item].index_select(0, pick.steps.to(steps.device))  # [s, head, head_dim]
            found = torch.cat([found, late.transpose(0, 1)], dim=1)
        return found.index_select(1, pick.order.to(found.device))

    def sight(self, layer: int, item: int, pick: Pick, layout: RowLayout) -> torch.Tensor | None:
        """Which keys one item's rows of one layer could see.

        Args:
            layer: 0-based text layer.
            item: the item's place in the batch.
            pick: its rows.
            layout: where its tokens lie, with one position per row of the pick.

        Returns:
            [row, key] bool, keys counted without padding; None when each row saw all up to its own position.
        """
        masks = self._sight[layer]
        # Step masks that were not recorded are those of static buffers, which hide padding alone.
        late = [masks[step + 1] if step + 1 < len(masks) else None for step in pick.numbers]
        early = masks[0] if pick.early else None
        if early is None and all(mask is None for mask in late):
            return None
        device = self._prefill[layer].device
        keys = slice(layout.pad, layout.pad + layout.keys)
        visible = (torch.arange(layout.keys) <= layout.positions[:, None]).to(device)  # [row, key]
        if early is not None:
            seen = _of_item(early, item).index_select(0, pick.columns.to(device))[:, keys]
            padded = torch.nn.functional.pad(seen, (0, layout.keys - seen.shape[1]))
            visible[torch.tensor(pick.early, device=device)] = padded
        for row, mask in zip(pick.late, late, strict=True):
            if mask is not None:
                seen = _of_item(mask, item)[keys]
                visible[row, : len(seen)] = seen
        return visible

    def same_sight(self, one: int, other: int) -> bool:
        """Whether two layers were given the very same masks throughout."""
        mine, theirs = self._sight[one], self._sight[other]
        return len(mine) == len(theirs) and all(a is b for a, b in zip(mine, theirs, strict=True))

    def _kept_mask(self, mask: torch.Tensor) -> torch.Tensor:
        """[batch or 1, P, key] bool: the kept positions' rows of the prefill's mask [batch or 1, 1, position, key]."""
        for source, kept in self._masks:
            if source is mask:
                return kept
        if self._last_alone:
            kept = mask[:, 0, -1:].clone()
        else:
            index = self._positions.to(mask.device)[:, :, None]  # [batch, P, 1]
            rows = mask[:, 0].expand(len(index), -1, -1)
            kept = rows.gather(1, index.expand(-1, -1, mask.shape[3]))
        self._masks.append((mask, kept))
        return kept

    def _kept(self, query: torch.Tensor) -> torch.Tensor:
        if self._last_alone:
            return query[:, :, -1:].clone()
        index = self._positions.to(query.device)[:, None, :, None]  # [batch, 1, P, 1]
        return query.gather(2, index.expand(-1, query.shape[1], -1, query.shape[3]))


def _of_item(mask: torch.Tensor, item: int) -> torch.Tensor:
    """One item's part of a mask whose first axis is the batch, or 1 where all items share it."""
    return mask[item if mask.shape[0] > 1 else 0]


def _capture_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    query_capture: Recorder | None = None,
    attend: Attend | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Stock sdpa; the recorder travels in the forward call's own arguments, so runs in other threads never mix.

    A replay with gradients brings an attention of its own in the same way.
    """
    if attend is not None:
        return attend(AttentionCall(module, query, key, attention_mask, kwargs), value), None
    if query_capture is not None:
        query_capture.record(AttentionCall(module, query, key, attention_mask, kwargs))
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
