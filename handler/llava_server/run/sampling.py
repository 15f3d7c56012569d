"""One token from one row of logits: greedy, or sampled with the request's own generator.

Flow: raw logits [vocab] float32 -> the request's logits processors (choosing.py) -> the best token, or one draw.
Because each request has its own generator, its own processors and its own call, it gives the same tokens alone, in a
batch, and with transformers' `generate` (sampled: after `torch.manual_seed(seed)`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LogitsProcessorList

from llava_server.ask.decoding import Decoding


class Sampler:
    """Chooses the next token of one request.

    Args:
        decoding: how; greedy or sampled.
        seed: of the generator; None where nothing is drawn.
        device: where the logits are.
        processors: what changes the logits first.
        prompt: the prompt's ids, image tokens included, which processors may look back on.
    """

    def __init__(
        self,
        decoding: Decoding,
        seed: int | None,
        device: torch.device,
        processors: LogitsProcessorList,
        prompt: Sequence[int],
    ) -> None:
        self._decoding = decoding
        self._processors = processors
        self._generator = None if seed is None else torch.Generator(device).manual_seed(seed)
        self._ids = torch.tensor([list(prompt)], device=device) if processors else None  # [1, tokens so far]

    @property
    def plain(self) -> bool:
        """Whether the most probable token is taken."""
        return not self._decoding.draws and not self._processors

    def choose(self, logits: torch.Tensor) -> torch.Tensor:
        """One id, [1] int64, from logits [1, vocab] float32."""
        scores = logits if self._ids is None else self._processors(self._ids, logits)
        chosen: torch.Tensor = self._decoding.choose(scores, self._generator)
        if self._ids is not None:
            self._ids = torch.cat([self._ids, chosen[:, None]], dim=1)
        return chosen
