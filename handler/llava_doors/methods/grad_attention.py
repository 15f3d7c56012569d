"""Attention times gradient: attention that a little more of would make the word win by more.

m_j = the mean over the cells of a slot of a_rj * ReLU(d margin_r / d a_rj), margin_r = the logit of the row's token
less the best other one. Gradients of the plain logit point worse: what raises every word's logit counts there too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llava_doors.asked import AskedView, Reach, Shape
from llava_doors.door import Declaration
from llava_doors.method import Method, Needs, Seen
from llava_doors.parts.margins import logits_of, runners_up
from llava_doors.parts.slots import SlotMeans
from llava_wire.quantity import Quantity

if TYPE_CHECKING:
    import torch

_FLOAT = 4
DECLARATION = Declaration(
    name="grad_attention",
    summary="Attention that helped the word against its rival: attention times the positive gradient of the margin.",
    implementation="llava_doors.methods.grad_attention:GradAttention",
    quantity=Quantity("attention times gradient", "logit"),
    traits={"heads": True, "streams": False},
)


class GradAttention(Method):
    """Each head's attention times the positive part of its gradient, one backward for all rows."""

    def needs(self, view: AskedView, facts: Shape) -> Needs:
        """See `Method`."""
        return Needs(rows="none", gradients="asked")

    def extra_bytes(self, view: AskedView, facts: Shape, reach: Reach) -> int:
        """See `Method`: gradients of the chosen layers and their products."""
        return 2 * _FLOAT * facts.layers * facts.heads * reach.rows * reach.length

    def maps(self, seen: Seen, view: AskedView) -> torch.Tensor:
        """See `Method`."""
        replay, layers = seen.replay(), list(view.cells)
        targets = seen.targets.to(replay.logits.device)
        margin = logits_of(replay.logits, targets) - logits_of(replay.logits, runners_up(replay.logits, targets))
        slopes = replay.gradients(margin.sum(), [replay.weights[layer] for layer in layers])
        means = SlotMeans(view, len(margin), (seen.layout.patches,), seen.device)
        for layer, slope in zip(layers, slopes, strict=True):
            image = seen.layout.image
            pull = replay.weights[layer].detach()[..., image] * slope[..., image].clamp(min=0)  # [head, row, patch]
            means.add(layer, range(len(pull)), slice(None), pull)
        [values] = means.finish()
        return values
