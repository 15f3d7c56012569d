"""What a word is held against: the best other word of its row."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def runners_up(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """[row] int64: the most probable word of each row but its own, which counts as chosen before any gradient.

    Args:
        logits: [row, vocabulary], part of a graph or not.
        targets: [row] int64, each row's own word.
    """
    return logits.detach().scatter(1, targets[:, None], float("-inf")).argmax(1)


def logits_of(logits: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """[row]: the logit of one word of each row, part of the graph that `logits` is part of.

    Args:
        logits: [row, vocabulary].
        words: [row] int64.
    """
    return logits.gather(1, words[:, None])[:, 0]
