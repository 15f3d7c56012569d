"""Packs training batches: scene numbers -> mirrored pictures, and several turns of each picture in one row.

The turns of a picture share its prefix. A block mask hides them from each other and positions start again after the
prefix, so that each turn sees exactly what a prompt with that turn alone would see, at a third of the cost.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from shapes.dataset import Scenes
from shapes.model import GRID
from shapes.questions import ask_some
from shapes.scenes import Layout
from shapes.tokenizer import IMAGE_TOKEN

IGNORED = -100


@dataclass(frozen=True)
class Pictures:
    """pixels [n, 3, side, side] float32; patches [n, grid, grid] int64 (1 + number in the unmirrored layout);
    sources: the unmirrored layouts; layouts: what the mirrored pictures show; mirrored: the flips of each."""

    pixels: Tensor
    patches: Tensor
    sources: list[Layout]
    layouts: list[Layout]
    mirrored: list[tuple[bool, bool]]


@dataclass(frozen=True)
class Turns:
    """ids, targets, positions [n, t] int64; mask [n, 1, t, t] bool, true where a row may look. Targets are not yet
    shifted; IGNORED wherever no answer stands."""

    ids: Tensor
    targets: Tensor
    positions: Tensor
    mask: Tensor


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


def mirror_pictures(
    scenes: Scenes, numbers: list[int], rng: random.Random, normalise: Callable[[np.ndarray], Tensor]
) -> Pictures:
    """Each picture is mirrored at random, left to right and top to bottom."""
    pixels, patches, sources, layouts, mirrored = [], [], [], [], []
    for number in numbers:
        across, down = rng.random() < 0.5, rng.random() < 0.5
        picture, labels = scenes.pixels[number], scenes.patches[number]
        if across:
            picture, labels = picture[:, ::-1], labels[:, ::-1]
        if down:
            picture, labels = picture[::-1], labels[::-1]
        pixels.append(picture)
        patches.append(labels)
        sources.append(scenes.layouts[number])
        layouts.append(scenes.layouts[number].flipped(horizontally=across, vertically=down))
        mirrored.append((across, down))
    labels = torch.from_numpy(np.stack(patches).astype(np.int64))
    return Pictures(normalise(np.stack(pixels)), labels, sources, layouts, mirrored)


class Packer:
    """Turns layouts into rows of tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, turns: int) -> None:
        self._tokenizer = tokenizer
        self._turns = turns
        self._cache: dict[str, list[int]] = {}
        start = "USER: " + IMAGE_TOKEN * (GRID * GRID) + "\n"
        self._prefix: list[int] = tokenizer(start).input_ids
        whole = tokenizer(start + "Describe the image. ASSISTANT: From left").input_ids
        parts = self._prefix + self._encode("Describe the image. ASSISTANT:") + self._encode(" From left")
        if whole != parts:
            raise ValueError("the tokenizer joins text across the parts of a turn; packed ids would differ from served")

    def pack(self, layouts: list[Layout], rng: random.Random) -> Turns:
        """One row per layout, padded on the right to the longest; the mask keeps padding unseen."""
        rows = [self._row(layout, rng) for layout in layouts]
        length = max(len(row[0]) for row in rows)

        def padded(part: int, filler: int) -> Tensor:
            return torch.tensor([row[part] + [filler] * (length - len(row[part])) for row in rows])

        ids, targets = padded(0, self._tokenizer.pad_token_id), padded(1, IGNORED)
        segments, positions = padded(2, -1), padded(3, 0)
        same_turn = segments[:, None, :] == segments[:, :, None]
        mask = torch.ones(length, length, dtype=torch.bool).tril() & (same_turn | (segments[:, None, :] == 0))
        return Turns(ids, targets, positions, mask[:, None])

    def _row(self, layout: Layout, rng: random.Random) -> tuple[list[int], list[int], list[int], list[int]]:
        """ids, targets, segments (0 prefix, then 1 + turn) and positions of one layout."""
        start = len(self._prefix)
        ids, targets, segments, positions = list(self._prefix), [IGNORED] * start, [0] * start, list(range(start))
        for turn, question in enumerate(ask_some(rng, layout, self._turns)):
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
