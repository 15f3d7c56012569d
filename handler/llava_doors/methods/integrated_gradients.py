"""Integrated gradients: how much of the fall of a word's log p without the image each patch accounts for.

Flow: x, the image tokens, and m, their mean -> points m + t (x - m) at the middles of equal steps of t -> the gradient
of log p_r there, for each row r -> patch j gives the sum over its width of (x_j - m) times the mean gradient. The map
sums to log p_r(x) - log p_r(m) but for what the steps miss, which is measured and told (Sundararajan et al. 2017,
"Axiomatic attribution for deep networks", arXiv 1703.01365).

Middles of equal steps, not Gauss-Legendre nodes: log p is flat but for one steep part somewhere in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llava_doors.asked import AskedView, Reach, Shape
from llava_doors.door import Declaration, Parameter
from llava_doors.method import Maps, Method, Needs, Seen
from llava_wire.quantity import Quantity

if TYPE_CHECKING:
    import torch

TOLERANCE, LEAST_NATS = 0.05, 1.0
"""How much of the fall the map may miss before a note says so; a smaller fall than so many nats counts as so many."""
_FLOAT = 4
_SIDE_BY_SIDE = 1 << 12
"""Layers times width of all copies that run at one time, so that small models are not all overhead."""
DECLARATION = Declaration(
    name="integrated_gradients",
    summary="How much each patch accounts for of what a word's log p loses without the image, by gradients on the way.",
    implementation="llava_doors.methods.integrated_gradients:IntegratedGradients",
    parameters=(
        Parameter("steps", "integer", 32, "Points on the way from the mean image token; more miss less.", (), 0, 256),
    ),
    quantity=Quantity("integrated gradient of log p", "nats", signed=True, additive=True),
    traits={"heads": False},
)


class IntegratedGradients(Method):
    """One map per row, a backward per row and step."""

    def needs(self, view: AskedView, facts: Shape) -> Needs:
        """See `Method`."""
        return Needs(rows="none", gradients="passes", passes=_side_by_side(view, facts.width))

    def passes(self, view: AskedView, facts: Shape, reach: Reach) -> int:
        """See `Method`: both ends, and at every step one forward and a backward for each row."""
        return 2 + view.parameters["steps"] * (1 + 2 * reach.rows)

    def extra_bytes(self, view: AskedView, facts: Shape, reach: Reach) -> int:
        """See `Method`: points on the way with their embeddings and slopes, and the maps."""
        side = _side_by_side(view, facts.width)
        return _FLOAT * ((2 * side * reach.length + (3 * side + 2) * reach.patches) * facts.width)

    def maps(self, seen: Seen, view: AskedView) -> Maps:
        """See `Method`."""
        import torch

        image = seen.embeddings()[seen.layout.image].float()  # [patch, width]
        mean = image.mean(0)
        way, steps = image - mean, view.parameters["steps"]
        values = torch.zeros((len(seen.layout.positions), len(image)), device=image.device)
        points = (torch.arange(steps, device=image.device) + 0.5) / steps
        for some in points.split(_side_by_side(view, way.shape[1])):
            at = (mean + some[:, None, None] * way).requires_grad_()  # [point, patch, width]
            told = _log_probs(seen, at)  # [point, row]
            for row in range(told.shape[1]):
                seen.spend(2 * len(some))
                [slope] = torch.autograd.grad(told[:, row].sum(), at, retain_graph=row + 1 < told.shape[1])
                values[row] += (slope.sum(0) * way).sum(-1)
        return _told(values.to(seen.device) / steps, *_ends(seen, mean, image))


def _side_by_side(view: AskedView, width: int) -> int:
    return max(1, min(view.parameters["steps"], _SIDE_BY_SIDE // (len(view.cells) * width)))


def _log_probs(seen: Seen, image: torch.Tensor) -> torch.Tensor:
    """[copy, row]: log p of each row's word with these image tokens [copy, patch, width] in place of the run's own."""
    embeddings = seen.embeddings().float().repeat(len(image), 1, 1)
    embeddings[:, seen.layout.image] = image
    logits = seen.forward(embeddings).log_softmax(-1)  # [copy, row, vocabulary]
    return logits.gather(2, seen.targets[None, :, None].expand(len(image), -1, 1))[..., 0]


def _ends(seen: Seen, mean: torch.Tensor, image: torch.Tensor) -> list[torch.Tensor]:
    """[row] each: log p without the image and with it, in float32 as all of the way is."""
    ends = (mean.expand_as(image), image)
    return [_log_probs(seen, end[None].clone().requires_grad_())[0].detach() for end in ends]


def _told(values: torch.Tensor, without: torch.Tensor, within: torch.Tensor) -> Maps:
    """The maps with what they leave of each word's log p, and a note where that is much."""
    fall, image = within - without, values.sum(1)
    missed = fall - image
    much = int((missed.abs() > TOLERANCE * fall.abs().clamp(min=LEAST_NATS)).sum())
    note = (
        f"in {much} of {len(fall)} maps the patches miss more than {TOLERANCE} of the fall of log p without the image "
        f"(at worst {float(missed.abs().max()):.2g} nats); raise parameter steps."
    )
    parts = {"image": image, "without image": without, "missed": missed}
    return Maps(
        values[:, None], parts={name: part[:, None] for name, part in parts.items()}, notes=(note,) * bool(much)
    )
