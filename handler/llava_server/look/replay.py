"""Rows run again with gradients: against the cache, or the whole of prompt and answer.

Flow: embeddings of some rows (leaves of the graph) -> the model's own forward, its attention replaced by one that keeps
its weights in the graph -> logits. Against the cache, keys and values of other rows are constants and only a row's own
token takes part in the graph: rows do not depend on one another, and one backward serves all of them exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch

from llava_doors.method import Held
from llava_server.attend.capture import AttentionCall
from llava_server.look.float32 import BiasScales, in_float32, is_gated


@dataclass(frozen=True)
class Constants:
    """What a layer's cache holds: keys, values [kv head, key, head_dim] float32; visible [row, key] bool."""

    keys: torch.Tensor
    values: torch.Tensor
    visible: torch.Tensor


@dataclass
class RowReplay:
    """See `llava_doors.method.Replay`; itself the attention of its forward."""

    embeddings: torch.Tensor
    positions: torch.Tensor
    constants: Callable[[int], Constants] | None
    hold: Collection[Held]
    weights: dict[int, torch.Tensor] = field(default_factory=dict)
    reads: dict[int, torch.Tensor] = field(default_factory=dict)
    logits: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    scales: BiasScales | None = None
    """What every bias was multiplied by; None where nothing was held."""

    @property
    def has_biases(self) -> bool:
        """See `llava_doors.method.Replay`."""
        return self.scales is not None and self.scales.used

    def biases(self, of: torch.Tensor) -> torch.Tensor:
        """See `llava_doors.method.Replay`; those of queries and keys take no part where attention is held."""
        if self.scales is None or not self.scales.used:
            return self.embeddings.new_zeros(len(self.positions))
        return self.gradients(of, [self.scales.ones])[0]

    def gradients(self, of: torch.Tensor, wrt: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """See `llava_doors.method.Replay`."""
        return torch.autograd.grad(of, list(wrt), retain_graph=True)

    def attend(self, call: AttentionCall, value: torch.Tensor) -> torch.Tensor:
        """One layer's attention: [1, row, head, head_dim] of what its heads read."""
        query, key, value = call.query[0].float(), call.key[0].float(), value[0].float()  # [head, row, head_dim]
        groups = query.shape[0] // key.shape[0]
        if self.constants is None:
            visible = _causal(call, query)
            keys, values = key, value
        else:
            kept = self.constants(call.layer)
            keys, values, visible = kept.keys, kept.values, kept.visible
        wide = [part.repeat_interleave(groups, 0) for part in (keys, values)]  # [head, key, head_dim]
        scores = query @ wide[0].transpose(1, 2)  # [head, row, key]
        if self.constants is not None:
            own = self.positions.to(query.device)
            at = torch.arange(scores.shape[2], device=query.device) == own[:, None]  # [row, key]
            alone = (query * key.repeat_interleave(groups, 0)).sum(-1, keepdim=True)  # [head, row, 1]
            scores = torch.where(at, alone, scores)
        weights = (scores * call.scaling).masked_fill(~visible, float("-inf")).softmax(-1)
        if "attention" in self.hold:
            weights = weights.detach()
        elif not weights.requires_grad:
            weights.requires_grad_()
        read = weights @ wide[1]  # [head, row, head_dim]
        if self.constants is not None:
            # The cache holds a row's own value too, as a constant: its place in the graph is given back here.
            share = weights.gather(2, own[None, :, None].expand(len(weights), -1, 1))  # [head, row, 1]
            read = read + share * (value.repeat_interleave(groups, 0) - wide[1][:, own])
        read = read.transpose(0, 1)  # [row, head, head_dim]
        self.weights[call.layer], self.reads[call.layer] = weights, read
        return read[None].to(call.query.dtype)


def replayed(
    model: torch.nn.Module,
    embeddings: torch.Tensor,
    positions: torch.Tensor,
    place_ids: torch.Tensor,
    constants: Callable[[int], Constants] | None,
    hold: Collection[Held],
) -> RowReplay:
    """Runs rows again.

    Args:
        model: the whole model, with the capture on its text model.
        embeddings: [row, width], what goes into the first layer.
        positions: [row] int64, where the rows lie.
        place_ids: [1, row] or [axes, 1, row] int64, what the model is told of it.
        constants: what the cache holds of a layer; None when the rows are all positions and see one another.
        hold: what counts as constant.
    """
    with torch.enable_grad():
        leaf = embeddings.detach().to(torch.float32, copy=True).requires_grad_()
        run = RowReplay(leaf, positions, constants, hold)
        run.scales = BiasScales(torch.ones(len(leaf), device=leaf.device, requires_grad=True)) if hold else None
        with in_float32(hold, gated=is_gated(model), scales=run.scales):
            logits: torch.Tensor = model(
                inputs_embeds=leaf[None],
                position_ids=place_ids.to(leaf.device),
                attention_mask=torch.ones((1, len(positions)), dtype=torch.int64, device=leaf.device),
                use_cache=False,
                attend=run.attend,
            ).logits
        run.logits = logits[0].float()
    run.constants = None  # it knows the run that keeps this one: a circle would live until the next collection
    return run


def _causal(call: AttentionCall, query: torch.Tensor) -> torch.Tensor:
    """[row, key] bool: which keys each row sees, as the model's own mask says."""
    if call.mask is not None:
        return call.mask[0, 0]
    count = query.shape[1]
    return torch.ones((count, count), dtype=torch.bool, device=query.device).tril()
