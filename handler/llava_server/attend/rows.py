"""Attention rows from captured queries and the key cache.

Flow: queries of some rows + cached keys of one layer -> fp32 softmax over the keys each row could see -> blocks of
whole rows, which methods (llava_doors) make maps of.

The row of a query is softmax(scaling * q K^T) over the keys that its layer let it see (all up to its own position where
the layer has no mask of its own), the same quantity that eager attention returns with output_attentions=True; computing
it in float32 makes it more exact than half-precision eager.
Scores are made in blocks of heads and rows, so that neither they nor the float32 keys of a layer exist all at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from llava_doors.method import span

_BLOCK_VALUES = {"cpu": 1 << 19, "cuda": 1 << 24}
"""Scores [head, row, key] or float32 keys [head, key, head_dim] made at once: about a core's cache on the CPU
(2 MiB), few and large kernels on a GPU (64 MiB)."""


@dataclass(frozen=True)
class RowLayout:
    """Where one item's tokens lie in the padded sequence.

    Args:
        pad: padding positions before the prompt.
        prompt_length: tokens of the prompt without padding.
        has_bos: whether the first token is the start of sequence.
        places: positions of the patches in the order of the maps, counted without padding; a range where they follow
            one another.
        positions: [row] int64 on the CPU, each row's own position, counted without padding.
        apart: positions of the images' tokens that are in no grid, counted without padding.
    """

    pad: int
    prompt_length: int
    has_bos: bool
    places: Sequence[int]
    positions: torch.Tensor
    apart: Sequence[int] = ()

    @cached_property
    def image(self) -> slice | torch.Tensor:
        """`places` for subscripting."""
        return _subscript(self.places)

    @property
    def patches(self) -> int:
        """How many patches there are."""
        return len(self.places)

    @property
    def length(self) -> int:
        """Positions up to the last row's, at least those of the prompt."""
        return self.keys

    @cached_property
    def text(self) -> tuple[slice | torch.Tensor, ...]:
        """Positions of the prompt that are neither the start of sequence nor a patch, for subscripting."""
        first = 1 if self.has_bos else 0
        if isinstance(self.image, slice):
            return slice(first, self.image.start), slice(self.image.stop, self.prompt_length)
        taken = {*self.places}
        return (_subscript([place for place in range(first, self.prompt_length) if place not in taken]),)

    @cached_property
    def separators(self) -> torch.Tensor:
        """`apart` for subscripting, [token] int64 on the CPU."""
        return torch.tensor([*self.apart], dtype=torch.int64)

    @cached_property
    def words(self) -> torch.Tensor:
        """[column] int64 on the CPU: positions of prompt and answer that are no patches."""
        is_text = torch.ones(self.keys, dtype=torch.bool)
        is_text[self.image] = False
        return is_text.nonzero()[:, 0]

    @cached_property
    def seen_by_all(self) -> int:
        """Keys, counted without padding, that every row may see: those up to the earliest row's own."""
        return int(self.positions.min()) + 1

    @cached_property
    def keys(self) -> int:
        """Keys, counted without padding, that any row may see; all of the prompt where every row lies inside it."""
        return max(int(self.positions.max()) + 1, self.prompt_length)

    @cached_property
    def future(self) -> torch.Tensor:
        """[row, key from `seen_by_all` on] bool: which keys a row may not see."""
        return torch.arange(self.seen_by_all, self.keys) > self.positions[:, None]

    def future_on(self, device: torch.device) -> torch.Tensor:
        """`future` on a device, copied there once: a copy for each layer makes the host wait for the GPU each time."""
        if device not in self._futures:
            self._futures[device] = self.future.to(device)
        return self._futures[device]

    @cached_property
    def _futures(self) -> dict[torch.device, torch.Tensor]:
        return {}


def scratch_bytes(heads: int, rows: int, keys: int, head_dim: int) -> int:
    """Bytes that `attention_rows` holds at one time: float32 keys, scores and weights of a block of one layer."""
    return 3 * 4 * min(heads * keys * max(rows, head_dim), max(_BLOCK_VALUES.values()))


def attention_rows(
    queries: torch.Tensor,
    keys: torch.Tensor,
    heads: tuple[int, ...],
    scaling: float,
    layout: RowLayout,
    visible: torch.Tensor | None = None,
) -> Iterator[tuple[tuple[int, ...], slice, torch.Tensor]]:
    """Yields (heads, row slice, weights) in blocks.

    Args:
        queries: [all heads, row, head_dim], any float dtype.
        keys: [kv heads, padded key, head_dim] of the same layer and item.
        heads: the query heads wanted, ascending.
        scaling: the factor on q.k.
        layout: the item's layout; `positions` has one entry per row.
        visible: [row, key] bool, which keys each row could see, counted without padding; None: all up to its position.

    Yields:
        the heads of the block; the slice of rows; weights [heads, rows, layout.keys] float32, each row of which sums
        to 1. Every wanted head comes with every row exactly once.
    """
    groups = queries.shape[0] // keys.shape[0]
    if visible is None:
        hidden, first_hidden = layout.future_on(queries.device), layout.seen_by_all
    else:
        hidden, first_hidden = (~visible).to(queries.device), 0
    by_kv_head: dict[int, list[int]] = {}
    for head in heads:
        by_kv_head.setdefault(head // groups, []).append(head)
    kv_heads = tuple(by_kv_head)
    count, length = queries.shape[1], layout.keys
    limit = _BLOCK_VALUES.get(queries.device.type, _BLOCK_VALUES["cuda"])
    kv_block = max(1, limit // (length * max(groups * count, keys.shape[2])))
    row_block = max(1, limit // (length * groups))
    for first in range(0, len(kv_heads), kv_block):
        chosen = kv_heads[first : first + kv_block]
        kept = keys[span(chosen), layout.pad : layout.pad + length].float().transpose(1, 2)  # [kv head, head_dim, key]
        grouped = queries.unflatten(0, (-1, groups))[span(chosen)]  # [kv head, group, row, head_dim]
        found = tuple(head for kv_head in chosen for head in by_kv_head[kv_head])
        # Places of the found heads among the groups of the chosen key-value heads.
        places = [chosen.index(head // groups) * groups + head % groups for head in found]
        for top in range(0, count, row_block):
            rows = slice(top, min(top + row_block, count))
            asked = grouped[:, :, rows].float().mul(scaling).flatten(1, 2)  # [kv head, group * row, head_dim]
            scores = (asked @ kept).unflatten(1, (groups, -1)).flatten(0, 1)[span(places)]  # [head, row, key]
            scores[..., first_hidden:].masked_fill_(hidden[rows], float("-inf"))
            yield found, rows, scores.softmax(-1)


def _subscript(indices: Sequence[int]) -> slice | torch.Tensor:
    """As `span`; a list becomes a tensor once, and not at each use."""
    found = span(indices) if indices else slice(0, 0)
    return found if isinstance(found, slice) else torch.tensor(found, dtype=torch.int64)
