"""A loaded model run with its own eager attention, layer by layer from given states.

Flow: `layer_inputs` keeps what goes into each layer in one run -> `replaced_inputs` gives it to each layer in another,
so that rounding does not add up -> `eager_rows` keeps the rows of weights that the model's own code makes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from llava_server.attend.capture import CAPTURE_ATTENTION
from llava_server.load.loading import LoadedModel

_EAGER = "eager_attention_forward"
"""What modelling files call their eager attention."""


class NoWeightsError(RuntimeError):
    """A layer that gives no attention weights with eager attention."""


def number_of(value: torch.Tensor) -> float:
    """A difference; infinite where it is none, so that it is over every limit."""
    return float(value) if bool(value.isfinite()) else math.inf


@contextmanager
def _before_layers(loaded: LoadedModel, hook_of: Callable[[int], Any]) -> Iterator[None]:
    """Calls `hook_of(number)` before each text layer's forward, with what goes into it."""
    layers = loaded.layers
    hooks = [layer.register_forward_pre_hook(hook_of(i), with_kwargs=True) for i, layer in enumerate(layers)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def layer_inputs(loaded: LoadedModel) -> Iterator[list[list[torch.Tensor]]]:
    """Keeps what goes into each text layer: per layer, per forward, [batch, position, width]."""
    states: list[list[torch.Tensor]] = [[] for _ in loaded.layers]

    def keep(number: int) -> Any:
        def hook(module: torch.nn.Module, args: Any, options: dict[str, Any]) -> None:
            states[number].append((args[0] if args else options["hidden_states"]).clone())

        return hook

    with _before_layers(loaded, keep):
        yield states


@contextmanager
def replaced_inputs(loaded: LoadedModel, given: Sequence[torch.Tensor]) -> Iterator[list[float]]:
    """Gives each text layer [1, position, width] of `given`; keeps how far that was from what it would have got."""
    differences: list[float] = []

    def swap(number: int) -> Any:
        def hook(module: torch.nn.Module, args: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            own = args[0] if args else options["hidden_states"]
            wanted = given[number][None].to(own.device)
            apart = (own.float() - wanted.float()).norm(dim=-1) / wanted.float().norm(dim=-1).clamp(min=1e-12)
            differences.append(number_of(apart.max()))
            return ((wanted, *args[1:]), options) if args else (args, {**options, "hidden_states": wanted})

        return hook

    with _before_layers(loaded, swap):
        yield differences


@contextmanager
def eager_rows(
    loaded: LoadedModel, modules: dict[int, torch.nn.Module], positions: torch.Tensor
) -> Iterator[dict[int, torch.Tensor]]:
    """The model with its own eager attention, in float32; gives the rows at `positions` per layer, [head, row, key]."""
    rows: dict[int, torch.Tensor] = {}

    def keep(layer: int) -> Any:
        def hook(module: torch.nn.Module, args: Any, output: Any) -> None:
            weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
            if weights is None or weights.dim() != 4:
                raise NoWeightsError(f"no weights from layer {layer} with eager attention")
            rows[layer] = weights[0].index_select(1, positions.to(weights.device)).float()

        return hook

    hooks = [module.register_forward_hook(keep(layer)) for layer, module in modules.items()]
    homes = {sys.modules[type(module).__module__] for module in modules.values()}
    plain = {home: getattr(home, _EAGER) for home in homes if hasattr(home, _EAGER)}
    loaded.set_attention("eager")
    for home, function in plain.items():
        setattr(home, _EAGER, _in_float32(function))
    try:
        yield rows
    finally:
        for home, function in plain.items():
            setattr(home, _EAGER, function)
        loaded.set_attention(CAPTURE_ATTENTION)
        for hook in hooks:
            hook.remove()


def _in_float32(function: Any) -> Any:
    """A model's eager attention on float32 copies of its queries, keys and values; its output in their dtype."""

    def attention(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **named: Any
    ) -> Any:
        # The mask comes by place or by name; a mask of numbers in half precision would round what is added to it.
        args = tuple(_widened(one) for one in args)
        named = {name: _widened(one) for name, one in named.items()}
        output, weights = function(module, query.float(), key.float(), value.float(), *args, **named)
        return output.to(query.dtype), weights

    return attention


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
