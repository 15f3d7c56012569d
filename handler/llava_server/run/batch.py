"""One batch before and after it ran: requests ready to run, their padded form, what each of them produced.

Flow: `BatchItem`s -> `pad` -> `PaddedBatch` -> a decoder -> `BatchRun` with one `Decoded` per item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from llava_doors.family import Family
from llava_server.ask.plan import Plan
from llava_server.attend.capture import QueryCapture
from llava_server.attend.rows import RowLayout
from llava_server.read.images import PreparedImages
from llava_server.read.prompt import EncodedPrompt

FinishReason = Literal["stop", "length", "deadline"]


@dataclass(frozen=True)
class BatchItem:
    """One answer to produce.

    Args:
        images, prompt, plan: pictures, question and what is asked for.
        deadline_s: the `time.monotonic()` at which it must stop.
        seed: of its own random numbers; None when it does not sample.
        sequence: its number among the sequences of its request.
        answer: the answer's ids when they are given (a replay), else empty.
        finish_reason: why a given answer ended.
        sampling: how a given answer was chosen, when that is known from its record.
        others: other questions about the picture that methods of its views ask, as the model reads them.
    """

    images: PreparedImages
    prompt: EncodedPrompt
    plan: Plan
    deadline_s: float
    seed: int | None = None
    sequence: int = 0
    answer: tuple[int, ...] = ()
    finish_reason: FinishReason = "stop"
    sampling: Mapping[str, Any] | None = None
    others: Mapping[str, EncodedPrompt] = field(default_factory=dict)


@dataclass(frozen=True)
class Decoded:
    """What one item of a batch produced.

    Args:
        ids: the answer's token ids, the end of sequence included.
        logprobs: natural log probability of each, from raw logits.
        top_ids, top_logprobs: [token][5], most probable first.
        finish_reason: "stop", "length" or "deadline".
        pad: padding positions before its prompt.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    top_ids: tuple[tuple[int, ...], ...]
    top_logprobs: tuple[tuple[float, ...], ...]
    finish_reason: FinishReason
    pad: int


@dataclass(frozen=True)
class BatchRun:
    """A finished batch.

    Args:
        decoded: one per item.
        keys: per text layer [batch or more, kv head, padded key, head_dim], the cached keys; not copied, so a run on
            static buffers is only valid until the next one.
        values: the cached values alike; none where no view's method needs them.
        capture: the queries of its rows.
        decoder: "dynamic", "static", "compiled" or "replay".
        prefill_ms, decode_ms: wall-clock time.
    """

    decoded: tuple[Decoded, ...]
    keys: tuple[torch.Tensor, ...]
    capture: QueryCapture
    decoder: str
    prefill_ms: float
    decode_ms: float
    values: tuple[torch.Tensor, ...] = ()


@dataclass(frozen=True)
class PaddedBatch:
    """Prompts (and given answers) padded on the left.

    Args:
        input_ids, attention_mask: [batch, length] int64.
        position_ids: [batch, length] int64, or [axes, batch, length] where a position has several axes.
        next_positions: [batch, 1] or [axes, batch, 1] int64, of the first token after each prompt and given answer.
        inputs: what the family makes features of, per prompt, on the device.
        image_mask: [batch, length] bool, where features go; an answer may hold the image token as a word.
        pads: padding positions before each item's prompt.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    position_ids: torch.Tensor
    next_positions: torch.Tensor
    inputs: tuple[dict[str, Any], ...]
    image_mask: torch.Tensor
    pads: tuple[int, ...]

    @property
    def size(self) -> int:
        """Items."""
        return self.input_ids.shape[0]

    @property
    def length(self) -> int:
        """Padded positions."""
        return self.input_ids.shape[1]


def pad(
    items: Sequence[BatchItem], family: Family, pad_id: int, device: torch.device, dtype: torch.dtype
) -> PaddedBatch:
    """Pads a batch on the left; an item with a given answer carries all of it but its last token, as decoding would."""
    sequences = [(*item.prompt.ids, *item.answer[:-1]) for item in items]
    longest = max(len(ids) for ids in sequences)
    pads = tuple(longest - len(ids) for ids in sequences)
    rows = [[pad_id] * before + list(ids) for before, ids in zip(pads, sequences, strict=True)]
    masks = [[0] * before + [1] * (longest - before) for before in pads]
    attention_mask = torch.tensor(masks, device=device)
    image_mask = torch.zeros((len(items), longest), dtype=torch.bool)
    for row, before, item in zip(image_mask, pads, items, strict=True):
        row[torch.tensor(item.prompt.filled) + before] = True
    positions, following = _positions(items, family, pads, attention_mask)
    return PaddedBatch(
        input_ids=torch.tensor(rows, device=device),
        attention_mask=attention_mask,
        position_ids=positions,
        next_positions=following,
        inputs=tuple(moved(item.images.inputs, device, dtype) for item in items),
        image_mask=image_mask.to(device),
        pads=pads,
    )


def moved(inputs: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """A prompt's inputs on the device, those of floating point in the model's dtype."""
    return {name: one.to(device, dtype if one.is_floating_point() else None) for name, one in inputs.items()}


def _positions(
    items: Sequence[BatchItem], family: Family, pads: Sequence[int], attention_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of all padded tokens, and that of the next one; see `PaddedBatch`."""
    places = (attention_mask.cumsum(-1) - 1).clamp(min=0)  # [batch, length]
    if family.axes == 1:
        return places, places[:, -1:] + 1
    positions = places.new_zeros((family.axes, *places.shape))
    following = places.new_zeros((family.axes, len(items), 1))
    for i, (item, before) in enumerate(zip(items, pads, strict=True)):
        prompt = family.positions(item.prompt.ids, item.images.inputs)  # [axes, length]
        end, first = before + prompt.shape[1], int(prompt.max()) + 1
        given = positions.shape[2] - end
        positions[:, i, before:end] = prompt.to(positions.device)
        positions[:, i, end:] = torch.arange(first, first + given, device=positions.device)
        following[:, i] = first + given
    return positions, following


def layout_of(item: BatchItem, pad: int, positions: Sequence[int], bos_id: int | None) -> RowLayout:
    """Where an item's tokens lie, for rows at `positions`, which are counted without the `pad` positions before it."""
    return RowLayout(
        pad=pad,
        prompt_length=len(item.prompt.ids),
        has_bos=item.prompt.ids[0] == bos_id,
        places=item.prompt.patches,
        positions=torch.tensor(positions, dtype=torch.int64),
        apart=item.prompt.separators,
    )


def captured_positions(items: Sequence[BatchItem], batch: PaddedBatch) -> torch.Tensor:
    """[batch, P] padded positions whose queries the prefill must keep, the last one repeated to fill.

    They are the rows that predict the answer's first token (all of a given answer's tokens), and the question's
    tokens where prompt rows are asked for.
    """
    rows = []
    for item, before in zip(items, batch.pads, strict=True):
        last = before + len(item.prompt.ids) - 1
        question = item.prompt.question if item.plan.options.rows != "answer" else ()
        if item.plan.every_position:
            question = tuple(range(len(item.prompt.ids) - 1))
        rows.append([*range(last, last + max(len(item.answer), 1)), *(before + position for position in question)])
    width = max(len(row) for row in rows)
    return torch.tensor([row + [row[-1]] * (width - len(row)) for row in rows])


def captured_layers(items: Sequence[BatchItem]) -> frozenset[int]:
    """The text layers that any view of the batch reads."""
    return frozenset(layer for item in items for layer in item.plan.captured)


def keeps_values(items: Sequence[BatchItem]) -> bool:
    """Whether any view's method needs the cached values."""
    return any(item.plan.keeps_values for item in items)
