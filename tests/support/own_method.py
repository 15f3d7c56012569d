"""Pull: what more attention to a patch would do to a word's logit, weighed by the length of the patch's values."""

from llava_doors.door import Declaration, Parameter
from llava_doors.method import Method, Needs
from llava_wire.quantity import Quantity

DECLARATION = Declaration(
    name="pull",
    summary="Attention times the gradient of the word's logit, weighed by the length of each patch's values.",
    implementation="own_method:Pull",
    parameters=(Parameter("power", "number", 1.0, "Of the lengths."),),
    quantity=Quantity("pull", "logit", signed=True, additive=True),
)


class Pull(Method):
    """One map per slot: the mean over its heads of attention x gradient x length ** power."""

    def needs(self, view, facts):
        return Needs(rows="none", values=True, gradients="asked")

    def extra_bytes(self, view, facts, reach):
        return 2 * 4 * facts.layers * facts.heads * reach.rows * reach.length  # gradients and products, float32

    def maps(self, seen, view):
        replay, image = seen.replay(), seen.layout.image
        chosen = replay.logits.gather(1, seen.targets[:, None])  # [row, 1]: each row's own word
        layers = list(view.cells)
        slopes = replay.gradients(chosen.sum(), [replay.weights[layer] for layer in layers])
        pulls = {}
        for layer, slope in zip(layers, slopes, strict=True):
            lengths = seen.values(layer).float().norm(dim=-1) ** view.parameters["power"]  # [kv head, key]
            lengths = lengths.repeat_interleave(len(slope) // len(lengths), 0)  # [head, key]
            pull = replay.weights[layer].detach() * slope * lengths[:, None]  # [head, row, key]
            pulls[layer] = pull[..., image].to(seen.device)
        return sum_of_slots(pulls, view)


def sum_of_slots(pulls, view):
    """[row, slot, patch]: the mean over the cells of each slot."""
    import torch

    means = [sum(pulls[layer][head] for layer, head in cells) / len(cells) for cells in view.slots]
    return torch.stack(means, 1)
