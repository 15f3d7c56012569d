"""One token from one row of logits: greedy, or sampled with the request's own generator.

Flow: raw logits [vocab] float32 -> transformers' own warpers in generate's order -> one id. Because each request has
its own generator and its own call, a sampled request gives the same tokens alone, in a batch, and with
`generate(do_sample=True)` after `torch.manual_seed(seed)`.
"""

from __future__ import annotations

import secrets

import torch
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from llava_server.options import Options


def seed_of(options: Options) -> int | None:
    """The seed of a request: the given one, a fresh one when it samples without, None when it is greedy."""
    if not options.sampling:
        return None
    return options.seed if options.seed is not None else secrets.randbits(53)


class Sampler:
    """Chooses the next token of one request.

    Args:
        options: the request's options.
        seed: of the generator; None for greedy.
        device: where the logits are.
    """

    def __init__(self, options: Options, seed: int | None, device: torch.device) -> None:
        self._warpers: list[TemperatureLogitsWarper | TopKLogitsWarper | TopPLogitsWarper] = []
        self._generator: torch.Generator | None = None
        if seed is None:
            return
        self._generator = torch.Generator(device).manual_seed(seed)
        if options.temperature != 1.0:
            self._warpers.append(TemperatureLogitsWarper(options.temperature))
        if options.top_k is not None:
            self._warpers.append(TopKLogitsWarper(top_k=options.top_k))
        if options.top_p is not None and options.top_p < 1.0:
            self._warpers.append(TopPLogitsWarper(top_p=options.top_p))

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is taken."""
        return self._generator is None

    def choose(self, logits: torch.Tensor) -> torch.Tensor:
        """One id, [1] int64, from logits [1, vocab] float32."""
        if self._generator is None:
            return logits.argmax(-1)
        scores = logits
        for warper in self._warpers:
            scores = warper(None, scores)
        # Logits that are not finite make a row of nan, which nothing can be drawn from (on a GPU the process would be
        # lost); any token will do, because the record is refused.
        weights = scores.softmax(-1).nan_to_num(1.0)
        return torch.multinomial(weights, num_samples=1, generator=self._generator).squeeze(1)
