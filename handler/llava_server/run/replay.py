"""Attention of an answer that exists already: one teacher-forced forward instead of decoding again.

Flow: prompts with given answers, padded on the left -> one prefill that keeps the queries of every answer row -> the
same `BatchRun` as decoding gives, so rows, reductions and records are made by the same code.

It equals the online capture up to rounding, because a row depends on the tokens before it and not on how they were
chosen. Beams and other search are served this way: search with plain attention, then replay what was found. Only models
whose rotary angles change with the length of the text are decoded again, token by token, with the given tokens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from llava_server.attend.capture import QueryCapture
from llava_server.load.loading import LoadedModel
from llava_server.run.batch import BatchItem, BatchRun, Decoded, captured_layers, captured_positions, keeps_values, pad
from llava_server.run.decoded import score
from llava_server.run.generate import generate, prefill


@torch.inference_mode()
def replay(loaded: LoadedModel, items: Sequence[BatchItem]) -> BatchRun:
    """Runs one batch of given answers.

    Args:
        loaded: model and processor.
        items: at least one, each with its `answer`.

    Returns:
        the run; log probabilities are recomputed from this forward's raw logits.
    """
    if loaded.length_dependent:
        return _step_by_step(loaded, items)
    started = time.perf_counter()
    batch = pad(items, loaded.family, loaded.pad_id, loaded.device, loaded.model.dtype)
    capture = QueryCapture(captured_positions(items, batch), batch.length, captured_layers(items))
    logits, cache = prefill(loaded, batch, capture, last=max(len(item.answer) for item in items))
    decoded = []
    for i, item in enumerate(items):
        # The row before each token predicts it; prompts end at the right, so the last rows are the answer's.
        rows = logits[i, logits.shape[1] - len(item.answer) :]
        chosen, values, indices = score(rows, torch.tensor(item.answer, device=rows.device))
        decoded.append(
            Decoded(
                ids=item.answer,
                logprobs=tuple(chosen.tolist()),
                top_ids=tuple(tuple(row) for row in indices.tolist()),
                top_logprobs=tuple(tuple(row) for row in values.tolist()),
                finish_reason=item.finish_reason,
                pad=batch.pads[i],
            )
        )
    keys = tuple(layer.keys for layer in cache.layers)
    kept = tuple(layer.values for layer in cache.layers) if keeps_values(items) else ()
    return BatchRun(tuple(decoded), keys, capture, "replay", (time.perf_counter() - started) * 1000, 0.0, kept)


def _step_by_step(loaded: LoadedModel, items: Sequence[BatchItem]) -> BatchRun:
    """The same by decoding again with the given tokens, where one forward would turn keys by another angle."""
    free = [
        replace(
            item,
            answer=(),
            deadline_s=math.inf,
            plan=replace(item.plan, options=replace(item.plan.options, max_new_tokens=len(item.answer))),
        )
        for item in items
    ]
    run = generate(replace(loaded, eos_ids=()), free, given=[item.answer for item in items])
    decoded = [replace(one, finish_reason=item.finish_reason) for one, item in zip(run.decoded, items, strict=True)]
    return replace(run, decoded=tuple(decoded), decoder="replay")
