"""The tokens of a running batch: ids, log probabilities and candidates per step, and when each item is finished.

Flow: raw logits and chosen ids of one step -> `TokenLog.add` -> ... -> `TokenLog.finish` -> one `Decoded` per item.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from llava_server.run.batch import BatchItem, Decoded, FinishReason

TOP = 5


def score(logits: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log probabilities from raw logits.

    Args:
        logits: [n, vocab] float32.
        ids: [n] int64, the chosen tokens.

    Returns:
        log probability [n] of the ids; [n, 5] log probabilities and [n, 5] ids of the most probable tokens.
    """
    spread = logits.log_softmax(-1)
    values, indices = spread.topk(min(TOP, spread.shape[1]), dim=-1)
    return spread.gather(1, ids[:, None])[:, 0], values, indices


class TokenLog:
    """Collects the steps of one batch; everything stays on the device until the end but the ids, which decide it."""

    def __init__(self, items: Sequence[BatchItem], pads: Sequence[int], eos_ids: Sequence[int]) -> None:
        self._items = items
        self._pads = pads
        self._eos_ids = frozenset(eos_ids)
        self._ids: list[list[int]] = []  # [step][item]
        self._scores: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self._lengths = [0] * len(items)
        self.reasons: list[FinishReason | None] = [None] * len(items)

    def add(self, logits: torch.Tensor, chosen: torch.Tensor) -> bool:
        """Takes one step.

        Args:
            logits: [batch, vocab] float32.
            chosen: [batch] int64.

        Returns:
            whether every item has finished.
        """
        self._scores.append(score(logits, chosen))
        ids = chosen.tolist()
        self._ids.append(ids)
        now = time.monotonic()
        for i, item in enumerate(self._items):
            if self.reasons[i] is not None:
                continue
            self._lengths[i] += 1
            if ids[i] in self._eos_ids:
                self.reasons[i] = "stop"
            elif self._lengths[i] >= item.plan.options.max_new_tokens:
                self.reasons[i] = "length"
            elif now >= item.deadline_s:
                self.reasons[i] = "deadline"
        return all(self.reasons)

    def latest(self, item: int) -> tuple[int, float, list[int], list[float]]:
        """The last token of one item: id, log probability, most probable ids and their log probabilities."""
        logprob, values, indices = self._scores[-1]
        return self._ids[-1][item], float(logprob[item]), indices[item].tolist(), values[item].tolist()

    def ids(self, item: int) -> tuple[int, ...]:
        """The tokens of one item so far."""
        return tuple(step[item] for step in self._ids[: self._lengths[item]])

    def finish(self) -> tuple[Decoded, ...]:
        """One `Decoded` per item, cut where the item finished."""
        logprobs, values, indices = (torch.stack(parts, 1).tolist() for parts in zip(*self._scores, strict=True))
        return tuple(
            Decoded(
                ids=tuple(step[i] for step in self._ids[:count]),
                logprobs=tuple(logprobs[i][:count]),
                top_ids=tuple(tuple(row) for row in indices[i][:count]),
                top_logprobs=tuple(tuple(row) for row in values[i][:count]),
                finish_reason=self.reasons[i] or "stop",
                pad=self._pads[i],
            )
            for i, count in enumerate(self._lengths)
        )
