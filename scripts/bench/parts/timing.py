"""Paired timings of two ways: every pair in random order, on the same content of the cache.

Flow: model + prompt cache + way -> `decode_pairs` or `prefill_pairs` -> `Series` of seconds.

On the CPU a time is the CPU time of the calling thread (run with one thread, or it misses work); on a GPU it is the
time between two CUDA events.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from transformers import DynamicCache, LlamaForCausalLM

from bench.parts.text_model import PromptCache
from bench.parts.ways import Answer, Way

ANSWER_STEPS = 64
"""Decode steps of one answer; what is computed after the last of them is spread over them."""


@dataclass
class Series:
    """Seconds: of the baseline and of the way in each pair, and of what the way does after its last step."""

    base: list[float] = field(default_factory=list)
    way: list[float] = field(default_factory=list)
    afterwards: list[float] = field(default_factory=list)


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call: of this thread's CPU, or of the GPU's stream."""
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000
    started = time.thread_time()
    call()
    return time.thread_time() - started


def decode_pairs(model: LlamaForCausalLM, base: Way, way: Way, prompt: int, pairs: int, rng: random.Random) -> Series:
    """Times pairs of decode steps, in answers of `ANSWER_STEPS`; the first step of each answer does not count."""
    series, filled, device = Series(), PromptCache(model, prompt - 1), model.device
    while len(series.way) < pairs:
        both = [Answer(model, chosen, prompt, filled.start()) for chosen in (base, way)]
        # The prompt's last token is the prefill that every answer starts with, and the warm-up.
        for answer in both:
            _run(answer, prompt - 1, device)
        for step in range(min(ANSWER_STEPS, pairs - len(series.way))):
            order = [(series.base, both[0]), (series.way, both[1])]
            rng.shuffle(order)
            for seconds, answer in order:
                seconds.append(_run(answer, prompt + step, device))
                answer.stepped(prompt + step)
        if way.views:
            # Once per answer, as in the engine: a second time its memory would be warm.
            series.afterwards.append(timed(both[1].finish, device))
    return series


def prefill_pairs(model: LlamaForCausalLM, base: Way, way: Way, prompt: int, pairs: int, rng: random.Random) -> Series:
    """Times pairs of prefills with the rows of step 0; one short prefill of each way comes first and does not count."""
    series, device = Series(), model.device
    for chosen in (base, way):
        _prefill(model, chosen, min(prompt, 128), device)
    for _ in range(pairs):
        order = [(series.base, base), (series.way, way)]
        rng.shuffle(order)
        for seconds, chosen in order:
            seconds.append(_prefill(model, chosen, prompt, device))
    return series


def _run(answer: Answer, position: int, device: torch.device) -> float:
    ids, positions = torch.tensor([[1 + position % 1000]]).to(device), torch.tensor([[position]]).to(device)
    answer.attach()
    try:
        return timed(lambda: answer.forward(ids, positions), device)
    finally:
        answer.detach()


def _prefill(model: LlamaForCausalLM, way: Way, prompt: int, device: torch.device) -> float:
    answer = Answer(model, way, prompt, DynamicCache())
    ids, positions = torch.randint(1, 1000, (1, prompt), device=device), torch.arange(prompt, device=device)[None]

    def whole() -> None:
        answer.forward(ids, positions)
        answer.finish()

    answer.attach()
    try:
        return timed(whole, device)
    finally:
        answer.detach()
