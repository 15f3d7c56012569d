"""Beam search with plain attention; its answers get their attention by replay.

Flow: one prepared request -> transformers' own beam search -> sequences, best first -> one item with a given answer
per sequence.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria

from llava_server.load.loading import LoadedModel
from llava_server.run.batch import BatchItem, FinishReason, pad


class _Deadline(StoppingCriteria):
    """Stops the search at a `time.monotonic()`."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        late = time.monotonic() >= self._deadline_s
        return torch.full((input_ids.shape[0],), late, device=input_ids.device)  # type: ignore[return-value]


@torch.inference_mode()
def beam_search(loaded: LoadedModel, item: BatchItem) -> list[BatchItem]:
    """Searches for one request.

    Args:
        loaded: model and processor.
        item: the request; its options hold the number of beams and of sequences.

    Returns:
        one item per sequence, best first, with its answer given.
    """
    options = item.plan.options
    batch = pad([item], loaded.family, loaded.pad_id, loaded.device, loaded.model.dtype)
    output = loaded.model.generate(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        **loaded.family.own_inputs(batch.input_ids, batch.inputs[0]),
        generation_config=GenerationConfig(
            num_beams=options.num_beams,
            num_return_sequences=options.num_return_sequences,
            length_penalty=options.length_penalty,
            max_new_tokens=options.max_new_tokens,
            do_sample=False,
            eos_token_id=list(loaded.eos_ids) or None,
            pad_token_id=loaded.pad_id,
        ),
        stopping_criteria=[_Deadline(item.deadline_s)],
    )
    found = []
    for number, row in enumerate(output[:, batch.length :].tolist()):
        answer, reason = _cut(row, loaded.eos_ids, options.max_new_tokens)
        found.append(replace(item, sequence=number, answer=answer, finish_reason=reason))
    return found


def _cut(row: list[int], eos_ids: tuple[int, ...], limit: int) -> tuple[tuple[int, ...], FinishReason]:
    """A sequence without the padding behind its end."""
    for i, token in enumerate(row):
        if token in eos_ids:
            return tuple(row[: i + 1]), "stop"
    return tuple(row), "length" if len(row) >= limit else "deadline"
