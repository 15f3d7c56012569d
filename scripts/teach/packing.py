"""Packs training batches: scene numbers -> which pictures, mirrored or not, and several turns of each in one row.

The turns of a picture share its prefix. A block mask hides them from each other and positions start again after the
prefix, so that each turn sees exactly what a prompt with that turn alone would see, at a third of the cost.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from teach.tokens import IMAGE_TOKEN
from teach.world import World

IGNORED = -100


@dataclass(frozen=True)
class Turns:
    """ids, targets, positions, segments [n, t] int64. Targets are not yet shifted, and IGNORED wherever no answer
    stands; segments: 0 the prefix, 1 + i turn i, -1 padding."""

    ids: Tensor
    targets: Tensor
    positions: Tensor
    segments: Tensor

    def mask(self) -> Tensor:
        """[n, 1, t, t] bool, true where a row may look."""
        segments = self.segments
        same = segments[:, None, :] == segments[:, :, None]
        length = segments.shape[1]
        before = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
        return (before & (same | (segments[:, None, :] == 0)))[:, None]


def scene_numbers(count: int, batch: int, step: int, seed: str) -> list[int]:
    """The scenes of a step: epochs of shuffled numbers, laid end to end. Depends on nothing but its arguments, so that
    an interrupted run goes on with the very batches it would have seen."""
    first = step * batch
    return [_epoch(count, (first + k) // count, seed)[(first + k) % count] for k in range(batch)]


@lru_cache(maxsize=4)
def _epoch(count: int, epoch: int, seed: str) -> tuple[int, ...]:
    numbers = list(range(count))
    random.Random(f"{seed} epoch {epoch}").shuffle(numbers)
    return tuple(numbers)


class Packer:
    """Turns layouts into rows of tokens."""

    def __init__(self, world: World, tokenizer: PreTrainedTokenizerFast, turns: int) -> None:
        self._world, self._tokenizer, self._turns = world, tokenizer, turns
        self._cache: dict[str, list[int]] = {}
        start = "USER: " + IMAGE_TOKEN * (world.seen_px // world.patch_px) ** 2 + "\n"
        self._prefix: list[int] = tokenizer(start).input_ids
        whole = tokenizer(start + "Describe the image. ASSISTANT: From left").input_ids
        parts = self._prefix + self._encode("Describe the image. ASSISTANT:") + self._encode(" From left")
        if whole != parts:
            raise ValueError("the tokenizer joins text across the parts of a turn; packed ids would differ from served")

    def pack(self, layouts: Sequence[Any], rng: random.Random) -> Turns:
        """One row per layout, padded on the right to the same length; the mask keeps padding unseen."""
        rows = [self._row(layout, rng) for layout in layouts]
        length = -(-max(len(row[0]) for row in rows) // 16) * 16  # few lengths, and such as kernels like

        def padded(part: int, filler: int) -> Tensor:
            return torch.tensor([row[part] + [filler] * (length - len(row[part])) for row in rows])

        return Turns(padded(0, self._tokenizer.pad_token_id), padded(1, IGNORED), padded(3, 0), padded(2, -1))

    def _row(self, layout: Any, rng: random.Random) -> tuple[list[int], list[int], list[int], list[int]]:
        """ids, targets, segments and positions of one layout."""
        start = len(self._prefix)
        ids, targets, segments, positions = list(self._prefix), [IGNORED] * start, [0] * start, list(range(start))
        for turn, question in enumerate(self._world.ask(rng, layout, self._turns)):
            asked = self._encode(f"{question.text} ASSISTANT:")
            answered = [*self._encode(f" {question.answer}"), self._tokenizer.eos_token_id]
            ids += asked + answered
            targets += [IGNORED] * len(asked) + answered
            segments += [1 + turn] * (len(asked) + len(answered))
            positions += range(start, start + len(asked) + len(answered))
        return ids, targets, segments, positions

    def _encode(self, text: str) -> list[int]:
        if text not in self._cache:
            self._cache[text] = self._tokenizer(text, add_special_tokens=False).input_ids
        return self._cache[text]
