"""How probable an answer's tokens are when the model sees only some of the patches.

Flow: which patches are kept, for each of several sets -> embeddings with the others' replaced by the mean of all -> a
teacher-forced forward of so many sets at a time as the method's needs name -> log probability of the token after each
row, given the same words before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import torch

from llava_doors.method import Needs
from llava_server.attend.rows import RowLayout
from llava_server.run.batch import BatchItem
from llava_wire.errors import RequestError


class Run(Protocol):
    """What is asked of a finished run here; `llava_server.look.seen.Seen` is one."""

    @property
    def needs(self) -> Needs:
        """What was declared; so many passes run side by side."""

    @property
    def layout(self) -> RowLayout:
        """Where its tokens lie."""

    @property
    def asked(self) -> BatchItem:
        """The request, with its deadline."""

    @property
    def targets(self) -> torch.Tensor:
        """See `llava_doors.method.Seen`."""

    def embeddings(self) -> torch.Tensor:
        """See `llava_doors.method.Seen`."""

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """See `llava_doors.method.Seen`."""


def log_probs(seen: Run, keep: torch.Tensor, *, mixed: bool = False) -> torch.Tensor:
    """[set, row] float32: see `llava_doors.method.Seen.log_probs`.

    Args:
        seen, keep: see `in_batches`.
        mixed: `keep` may also say in float32, 0 to 1, how far each patch is shown.

    Raises:
        ValueError: `keep` is of another shape or type.
        RequestError: "deadline", when the request's time passed.
    """
    embeddings, image = seen.embeddings(), seen.layout.image
    patches = embeddings[image]  # [patch, width]
    mean = patches.float().mean(0).to(embeddings.dtype)

    def entering(kept: torch.Tensor) -> torch.Tensor:
        given = embeddings.expand(len(kept), -1, -1).clone()  # [set, position, width]
        shown = kept.to(embeddings.device)[..., None]  # [set, patch, 1]
        if kept.dtype == torch.bool:
            given[:, image] = torch.where(shown, patches, mean)
        else:
            given[:, image] = (mean.float() + shown * (patches.float() - mean.float())).to(given.dtype)
        return given

    return in_batches(seen, keep, entering, (torch.bool, torch.float32) if mixed else (torch.bool,))


@torch.no_grad()
def in_batches(
    seen: Run,
    keep: torch.Tensor,
    entering: Callable[[torch.Tensor], torch.Tensor],
    dtypes: tuple[torch.dtype, ...] = (torch.bool,),
) -> torch.Tensor:
    """[set, row] float32: natural logs of the probabilities of the tokens after `seen`'s rows.

    Args:
        seen: the run; as many sets as its needs name passes run side by side.
        keep: [set, patch] bool, which patches each set shows, in the order of the maps.
        entering: [set, patch] to [set, position, width], what goes into the first layer.
        dtypes: those that `keep` may have.

    Raises:
        ValueError: `keep` is of another shape or type.
        RequestError: "deadline", when the request's time passed.
    """
    if keep.dtype not in dtypes or keep.ndim != 2 or keep.shape[1] != seen.layout.patches:
        raise ValueError(
            f"keep: got {list(keep.shape)} in {keep.dtype}, expected [set, {seen.layout.patches}] in torch.bool, a "
            "column for each patch of all grids"
        )
    found: list[torch.Tensor] = []
    targets = seen.targets
    for kept in keep.split(max(seen.needs.passes, 1)) if len(keep) else ():
        if found and time.monotonic() >= seen.asked.deadline_s:  # an answer that took all the time has one batch
            raise RequestError(
                "deadline",
                "options.deadline_ms",
                f"got {seen.asked.plan.deadline_ms} ms, which passed at set {len(found)} of patches; raise it, or ask "
                "for fewer",
            )
        logits = seen.forward(entering(kept))  # [set, row, vocabulary]
        wanted = targets.expand(len(kept), -1)[..., None]
        found.append((logits.gather(2, wanted) - logits.logsumexp(-1, keepdim=True))[..., 0])
    return torch.cat(found) if found else targets.new_zeros((0, len(targets)), dtype=torch.float32)
