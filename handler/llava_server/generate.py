"""The decoding loop of one batch, with the capture on.

Flow: encoded prompts + pixels -> left-padded batch -> prefill -> decode steps (greedy or sampled per request) until
every request has stopped -> tokens, log probabilities, key cache, captured queries.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import DynamicCache

from llava_server.capture import QueryCapture
from llava_server.images import PreparedImage
from llava_server.loading import LoadedModel
from llava_server.plan import Plan
from llava_server.prompt import EncodedPrompt
from llava_server.sampling import Sampler

TOP = 5


@dataclass(frozen=True)
class BatchItem:
    """One request, ready to run: picture, prompt, plan and the `time.monotonic()` at which it must stop."""

    image: PreparedImage
    prompt: EncodedPrompt
    plan: Plan
    deadline_s: float


@dataclass(frozen=True)
class Decoded:
    """What one request of a batch produced.

    Args:
        ids: the answer's token ids, the end of sequence included.
        logprobs: natural log probability of each, from raw logits.
        top_ids, top_logprobs: [token][5], most probable first.
        finish_reason: "stop", "length" or "deadline".
        seed: the sampler's seed, or None when greedy.
        pad: padding positions before its prompt.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    top_ids: tuple[tuple[int, ...], ...]
    top_logprobs: tuple[tuple[float, ...], ...]
    finish_reason: Literal["stop", "length", "deadline"]
    seed: int | None
    pad: int


@dataclass(frozen=True)
class BatchRun:
    """A finished batch: one `Decoded` per item, the cache and capture that rows are computed from, and timings."""

    decoded: tuple[Decoded, ...]
    cache: DynamicCache
    capture: QueryCapture
    prefill_ms: float
    decode_ms: float


@torch.inference_mode()
def generate(loaded: LoadedModel, items: Sequence[BatchItem]) -> BatchRun:
    """Runs one batch.

    Args:
        loaded: model and processor.
        items: at least one request.

    Returns:
        the run; greedy tokens are those of plain sdpa generation on the same padded batch.
    """
    device = loaded.device
    started = time.perf_counter()
    input_ids, attention_mask, pads = _left_pad([item.prompt.ids for item in items], loaded.pad_id, device)
    capture = QueryCapture(
        frozenset(layer for item in items for layer in item.plan.cells), _prompt_positions(items, pads, device)
    )
    samplers = [Sampler(item.plan.options, device) for item in items]
    limits = [item.plan.options.max_new_tokens for item in items]
    cache = DynamicCache(config=loaded.model.config.get_text_config(decoder=True))
    pixels = torch.cat([item.image.pixels for item in items]).to(device=device, dtype=loaded.model.dtype)
    position_ids = (attention_mask.cumsum(-1) - 1).clamp(min=0)
    inputs: dict[str, Any] = {"input_ids": input_ids, "pixel_values": pixels, "position_ids": position_ids}
    tokens: list[torch.Tensor] = []  # per step [batch]
    logprobs: list[torch.Tensor] = []  # per step [batch]
    tops: list[tuple[torch.Tensor, torch.Tensor]] = []  # per step ([batch, 5] log probability, [batch, 5] id)
    lengths = [0] * len(items)
    reasons: list[Literal["stop", "length", "deadline"] | None] = [None] * len(items)
    prefill_ms = 0.0
    while True:
        logits = loaded.model(
            **inputs,
            attention_mask=attention_mask,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            query_capture=capture,
        ).logits[:, -1]
        logits = logits.to(device=device, dtype=torch.float32)  # [batch, vocab]
        chosen = _choose(samplers, logits)
        spread = logits.log_softmax(-1)
        logprobs.append(spread.gather(1, chosen[:, None])[:, 0])
        tops.append(tuple(spread.topk(min(TOP, spread.shape[1]), dim=-1)))
        step_ids = chosen.tolist()
        if not tokens:
            prefill_ms = (time.perf_counter() - started) * 1000
        tokens.append(chosen)
        now = time.monotonic()
        for i, item in enumerate(items):
            if reasons[i] is not None:
                continue
            lengths[i] += 1
            if step_ids[i] in loaded.eos_ids:
                reasons[i] = "stop"
            elif lengths[i] >= limits[i]:
                reasons[i] = "length"
            elif now >= item.deadline_s:
                reasons[i] = "deadline"
        if all(reasons):
            break
        done = torch.tensor([reason is not None for reason in reasons], device=device)
        chosen = torch.where(done, torch.full_like(chosen, loaded.pad_id), chosen)
        attention_mask = torch.cat([attention_mask, attention_mask.new_ones((len(items), 1))], dim=1)
        position_ids = position_ids[:, -1:] + 1
        inputs = {"input_ids": chosen[:, None], "position_ids": position_ids}
    logprob_rows = torch.stack(logprobs, 1).tolist()
    top_logprobs = torch.stack([values for values, _ in tops], 1).tolist()
    top_ids = torch.stack([ids for _, ids in tops], 1).tolist()
    token_rows = torch.stack(tokens, 1).tolist()
    decode_ms = (time.perf_counter() - started) * 1000 - prefill_ms
    decoded = tuple(
        Decoded(
            ids=tuple(token_rows[i][:n]),
            logprobs=tuple(logprob_rows[i][:n]),
            top_ids=tuple(tuple(row) for row in top_ids[i][:n]),
            top_logprobs=tuple(tuple(row) for row in top_logprobs[i][:n]),
            finish_reason=reasons[i] or "stop",
            seed=samplers[i].seed,
            pad=pads[i],
        )
        for i, n in enumerate(lengths)
    )
    return BatchRun(decoded, cache, capture, prefill_ms, decode_ms)


def _choose(samplers: Sequence[Sampler], logits: torch.Tensor) -> torch.Tensor:
    """[batch] int64: one argmax for the greedy rows, one draw for each sampled row."""
    chosen = logits.argmax(-1)
    for i, sampler in enumerate(samplers):
        if not sampler.greedy:
            chosen[i] = sampler.choose(logits[i : i + 1])[0]
    return chosen


def _left_pad(
    prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Token ids and mask [batch, longest] int64, and the padding before each prompt."""
    longest = max(len(ids) for ids in prompts)
    pads = [longest - len(ids) for ids in prompts]
    rows = [[pad_id] * pad + list(ids) for pad, ids in zip(pads, prompts, strict=True)]
    masks = [[0] * pad + [1] * (longest - pad) for pad in pads]
    return torch.tensor(rows, device=device), torch.tensor(masks, device=device), pads


def _prompt_positions(items: Sequence[BatchItem], pads: Sequence[int], device: torch.device) -> torch.Tensor | None:
    """[batch, P] padded positions of the question's tokens, the last one repeated to fill; None when nobody asked."""
    wanted = [item.prompt.question if item.plan.options.rows != "answer" else () for item in items]
    width = max(len(positions) for positions in wanted)
    if width == 0:
        return None
    rows = [
        [pad + position for position in positions] + [pad] * (width - len(positions))
        for positions, pad in zip(wanted, pads, strict=True)
    ]
    return torch.tensor(rows, device=device)
