"""How many bytes a request can bring, so that no server makes the client read more.

Flow: options + prompt, or the answer that is replayed -> `reply_bytes`: rows x maps x patches x precision, tokens and
metadata, all generously. What a request leaves to the model ("all" unreduced, the default views), and a view of text,
is bounded by what the client allows any reply alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from llava_doors.door import METHODS
from llava_wire.codes.quantize import most_map_bytes
from llava_wire.reduction import DEFAULT, NUMBERED, REDUCTIONS

READY_BYTES = 1 << 20
"""For the answer to "are you ready", and for any refusal."""
_DEFAULT_TOKENS = 64
_MOST_PATCHES = 1 << 14
"""Per map and picture. LLaVA-1.5 has 576; the server does not say in advance how many its model has."""
_MAP_BYTES = 64
"""Scale and shares of a map, as numbers in JSON."""
_TOKEN_BYTES = 4 << 10
"""A token with its five candidates, in JSON, its text escaped."""
_FIXED_BYTES = 2 << 20
"""Prompt ids and pieces (one per patch), rectangles, model, notes."""
_PROMPT_BYTES = 64
"""Per byte of the prompt: a token at most, with id, piece, text and query."""
_STEPS = (1 << 20, 1 << 22, 1 << 24)
"""Limits are rounded up to one of these, so that a gRPC client needs few channels: theirs is a channel's."""


def reply_bytes(
    options: Mapping[str, Any], prompt_bytes: int, most_bytes: int, tokens: int | None = None, *, pictures: int = 1
) -> int:
    """The largest reply that a request can bring.

    Args:
        options: the request's; values that the server will refuse count as not bounded.
        prompt_bytes: size of the prompt.
        most_bytes: the most for any request.
        tokens: those of the answer that is replayed; None for a new one.
        pictures: how many are asked about.
    """
    new = tokens if tokens is not None else options.get("max_new_tokens", _DEFAULT_TOKENS)
    sequences = options.get("num_return_sequences", 1)
    maps = _maps_per_row(options)
    if maps is None or not (_count(new) and _count(sequences)):
        return most_bytes
    rows = len(steps) if isinstance(steps := options.get("steps"), list | tuple) else new
    rows += prompt_bytes if options.get("rows", "answer") != "answer" else 0
    each = most_map_bytes(str(options.get("precision", "uint8")), pictures * _MOST_PATCHES)
    stored = rows * maps * (each + _MAP_BYTES)
    one = stored + new * _TOKEN_BYTES + prompt_bytes * _PROMPT_BYTES + pictures * _FIXED_BYTES
    # As JSON the record comes as base64 beside its facts, and streamed every map comes twice.
    whole = sequences * one * (1 if options.get("format") == "npz" else 3)
    return min(next((step for step in _STEPS if whole <= step), most_bytes), most_bytes)


def _maps_per_row(options: Mapping[str, Any]) -> int | None:
    """Maps for each query row over all views; None when the request does not say."""
    views = options.get("views")
    if views is None:
        views = [options] if any(options.get(key) is not None for key in ("layers", "heads")) else [{}]
    if not isinstance(views, list | tuple) or not all(isinstance(view, Mapping) for view in views):
        return None
    counts = [_maps_of_view(view) for view in views]
    return None if None in counts else sum(count for count in counts if count is not None)


def _maps_of_view(view: Mapping[str, Any]) -> int | None:
    layers, heads, named = view.get("layers"), view.get("heads"), view.get("reduction", DEFAULT)
    declared = METHODS.known().get(str(view["method"])) if "method" in view else None
    if declared is not None and declared.is_of_text:
        return None  # as long as the prompt, and default views may come beside it
    reduction = REDUCTIONS.get(str(NUMBERED.get(named, named))) if isinstance(named, str | int | float) else None
    if reduction is None or (layers is None and heads is None):
        return None
    pairs = heads if isinstance(heads, list | tuple) and heads and isinstance(heads[0], list | tuple) else ()
    axes = {"layer": layers, "head": heads}
    if not pairs and not all(isinstance(axes[axis], list | tuple) for axis in reduction.keeps):
        return None
    return math.prod(reduction.shape(layers or (), heads or (), pairs))


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
