"""One token from one row of logits: greedy, or sampled with the request's own generator.

Flow: raw logits [vocab] float32 -> the request's logits processors (choosing.py) -> the best token, or one draw.
Because each request has its own generator, its own processors and its own call, it gives the same tokens alone, in a
batch, and with transformers' `generate` (sampled: after `torch.manual_seed(seed)`).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import torch
from transformers import LogitsProcessorList

from llava_server.ask.options import Options


def seed_of(options: Options) -> int | None:
    """The seed of a request: the given one, a fresh one when it samples without, None when it is greedy."""
    if not options.sampling:
        return None
    return options.seed if options.seed is not None else secrets.randbits(53)


class Sampler:
    """Chooses the next token of one request.

    Args:
        seed: of the generator; None for greedy.
        device: where the logits are.
        processors: what changes the logits first.
        prompt: the prompt's ids, image tokens included, which processors may look back on.
    """

    def __init__(
        self, seed: int | None, device: torch.device, processors: LogitsProcessorList, prompt: Sequence[int]
    ) -> None:
        self._processors = processors
        self._generator = None if seed is None else torch.Generator(device).manual_seed(seed)
        self._ids = torch.tensor([list(prompt)], device=device) if processors else None  # [1, tokens so far]

    @property
    def plain(self) -> bool:
        """Whether the most probable token is taken."""
        return self._generator is None and not self._processors

    def choose(self, logits: torch.Tensor) -> torch.Tensor:
        """One id, [1] int64, from logits [1, vocab] float32."""
        scores = logits if self._ids is None else self._processors(self._ids, logits)
        if self._generator is None:
            chosen = scores.argmax(-1)
        else:
            # Logits that are not finite make a row of nan, which nothing can be drawn from (on a GPU the process would
            # be lost); any token will do, because the record is refused.
            weights = scores.softmax(-1).nan_to_num(1.0)
            chosen = torch.multinomial(weights, num_samples=1, generator=self._generator).squeeze(1)
        if self._ids is not None:
            self._ids = torch.cat([self._ids, chosen[:, None]], dim=1)
        return chosen
