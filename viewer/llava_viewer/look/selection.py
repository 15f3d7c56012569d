"""What a view selected, in words: `ViewFacts` -> "layer 14 × heads 13, 24", "mean of 2 heads", slot names."""

from __future__ import annotations

import itertools

from llava_viewer.look.wording import ranges
from llava_wire.reduction import reduction_of
from llava_wire.schema import Model, TextFacts, ViewFacts

_MOST_PAIRS = 6


def selection_text(view: ViewFacts | TextFacts, model: Model) -> str:
    """Layers and heads: "all 4 layers × all 8 heads", "layer 14 × heads 13, 24" or "L14 H24, L14 H13"."""
    if not (view.pairs or view.layers or view.heads):
        return "all layers and heads together"
    if view.pairs:
        named = ", ".join(f"L{layer} H{head}" for layer, head in view.pairs[:_MOST_PAIRS])
        more = len(view.pairs) - _MOST_PAIRS
        text = f"{named} and {more} more" if more > 0 else named
    else:
        text = f"{_axis('layer', view.layers, model.layers)} × {_axis('head', view.heads, model.heads)}"
    return f"{text} (head set “{view.head_set}”)" if view.head_set else text


def reduction_text(view: ViewFacts) -> str:
    """What was averaged on the server."""
    return reduction_of(view.reduction).words(map_count(view), ranges(view.steps))


def map_count(view: ViewFacts) -> int:
    """How many single heads the view selected; 0 where its method tells none apart."""
    return len(view.pairs) or len(view.layers) * len(view.heads)


def slot_names(view: ViewFacts) -> list[str]:
    """The name of each map per row, in the order of the folded axes; one empty name when nothing is left unreduced."""
    labels = {
        "layer": [f"L{layer}" for layer in view.layers],
        "head": [f"H{head}" for head in view.heads],
        "layer_head": [f"L{layer} H{head}" for layer, head in view.pairs],
    }
    kept = [labels[axis] for axis in view.axes if axis in labels]
    return [" ".join(names) for names in itertools.product(*kept)]


def _axis(noun: str, chosen: tuple[int, ...], count: int) -> str:
    if len(chosen) == count and count > 1 and tuple(sorted(chosen)) == tuple(range(count)):
        return f"all {count} {noun}s"
    return f"{noun}{'s' if len(chosen) != 1 else ''} {ranges(chosen)}"
