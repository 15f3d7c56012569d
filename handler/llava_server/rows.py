"""Attention rows from captured queries and the key cache.

Flow: queries of some rows + cached keys of one layer -> fp32 softmax over the keys each row could see -> image columns
and the row's split over bos, image, prompt text and answer text.

The row of a query is softmax(scaling * q K^T) over the keys at or before its position, the same quantity that eager
attention returns with output_attentions=True; computing it in float32 makes it more exact than half-precision eager.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

_CHUNK_VALUES = 1 << 24
"""Scores [head, row, key] computed at once: 64 MiB in float32."""


@dataclass(frozen=True)
class RowLayout:
    """Where one item's tokens lie in the padded sequence.

    Args:
        pad: padding positions before the prompt.
        prompt_length: tokens of the prompt without padding.
        has_bos: whether the first token is the start of sequence.
        image_start, image_count: the run of image tokens, counted without padding.
        positions: [row] int64, each row's own position, counted without padding.
    """

    pad: int
    prompt_length: int
    has_bos: bool
    image_start: int
    image_count: int
    positions: torch.Tensor


def attention_rows(
    queries: torch.Tensor, keys: torch.Tensor, heads: tuple[int, ...], scaling: float, layout: RowLayout
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Yields (row slice, image columns, shares) in chunks of rows.

    Args:
        queries: [all heads, row, head_dim], any float dtype.
        keys: [kv heads, padded key, head_dim] of the same layer and item.
        heads: the query heads wanted.
        scaling: the factor on q.k.
        layout: the item's layout; `positions` has one entry per row.

    Yields:
        the slice of rows; image columns [len(heads), rows, image_count] float32; shares [len(heads), rows, 4] float32.
    """
    groups = queries.shape[0] // keys.shape[0]
    head_index = torch.tensor(heads, device=queries.device)
    end = layout.pad + int(layout.positions.max()) + 1
    kept = keys[head_index // groups, layout.pad : end].float()  # [head, key, head_dim]
    chosen = queries[head_index].float()  # [head, row, head_dim]
    key_positions = torch.arange(kept.shape[1], device=queries.device)
    row_positions = layout.positions.to(queries.device)
    chunk = max(1, _CHUNK_VALUES // max(1, kept.shape[0] * kept.shape[1]))
    for first in range(0, chosen.shape[1], chunk):
        rows = slice(first, min(first + chunk, chosen.shape[1]))
        scores = chosen[:, rows] @ kept.transpose(1, 2) * scaling  # [head, row, key]
        future = key_positions[None, :] > row_positions[rows, None]  # [row, key]
        weights = scores.masked_fill_(future, float("-inf")).softmax(-1)
        image = weights[..., layout.image_start : layout.image_start + layout.image_count]
        yield rows, image, _shares(weights, image, layout)


def _shares(weights: torch.Tensor, image: torch.Tensor, layout: RowLayout) -> torch.Tensor:
    """[head, row, 4]: how each row splits over bos, image, prompt text, answer text; sums to 1."""
    first = 1 if layout.has_bos else 0
    bos = weights[..., :first].sum(-1)
    on_image = image.sum(-1)
    answer = weights[..., layout.prompt_length :].sum(-1)
    before = weights[..., first : layout.image_start].sum(-1)
    after = weights[..., layout.image_start + layout.image_count : layout.prompt_length].sum(-1)
    return torch.stack([bos, on_image, before + after, answer], dim=-1)
