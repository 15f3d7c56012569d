"""Forwards with gradients in float32, whatever a model's weights are, and with parts of a layer held constant.

Flow: activations in float32 meet weights in half precision -> the function is taken here -> weights widened for as long
as it runs, again on the way back, so that no float32 copy of the model exists.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from llava_doors.method import Held

_HALVES = (torch.float16, torch.bfloat16)
_GATES = {functional.silu, functional.gelu, torch._C._nn.gelu}


class _Linear(torch.autograd.Function):
    """x W' with W in half precision, the product in float32; the graph keeps W as it is."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(weight)
        return functional.linear(x, weight.float())

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (weight,) = context.saved_tensors
        return gradients[0] @ weight.float(), None


class _Wide(TorchFunctionMode):
    """Gives functions of float32 activations and half weights their weights in float32."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.linear and args[0].dtype == torch.float32 and args[1].dtype in _HALVES:
            bias = args[2] if len(args) > 2 else kwargs.get("bias")
            product = _Linear.apply(args[0], args[1])
            return product if bias is None else product + bias
        if func is functional.layer_norm and args[0].dtype == torch.float32:
            args, kwargs = [_widened(one) for one in args], {name: _widened(one) for name, one in kwargs.items()}
        return func(*args, **kwargs)


@dataclass
class BiasScales:
    """A factor on the biases of each row: the slope of a number for it is what that row's biases add to the number.

    Args:
        ones: [row] float32, ones, leaves of the graph.
        used: whether there was a bias.
    """

    ones: torch.Tensor
    used: bool = False

    def of(self, bias: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """[row, width] in float32, or the bias itself where `x` [..., row, width] is not of these rows."""
        if x.dim() < 2 or x.shape[-2] != len(self.ones):
            return bias
        self.used = True
        return self.ones.to(bias.device)[:, None] * bias.detach().float()


class _Hold(TorchFunctionMode):
    """Makes factors of norms, or the gates of gated layers, constants of the graph."""

    def __init__(self, hold: Collection[Held], gated: bool, scales: BiasScales | None) -> None:
        super().__init__()
        self._hold, self._gated, self._scales = hold, gated, scales

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if "norms" in self._hold and func is functional.layer_norm:
            return _held_layer_norm(self._scales, *args, **kwargs)
        bias = kwargs.get("bias", args[2] if len(args) > 2 else None) if func is functional.linear else None
        if bias is not None and self._scales is not None:
            product = func(args[0], args[1] if len(args) > 1 else kwargs["weight"])
            return product + self._scales.of(bias, product)
        result = func(*args, **kwargs)
        if "gates" in self._hold and func in _GATES and not self._gated:
            # Without a gate the activation is all there is: its ratio to what went in is the constant factor.
            x = args[0]
            return x * torch.where(x == 0, 0.0, result / x).detach()
        constant = ("norms" in self._hold and func in (torch.rsqrt, torch.Tensor.rsqrt)) or (
            "gates" in self._hold and func in _GATES
        )
        return result.detach() if constant else result


@contextmanager
def in_float32(hold: Collection[Held] = (), *, gated: bool = True, scales: BiasScales | None = None) -> Iterator[None]:
    """Within it, a model that is given float32 embeddings computes in float32.

    Args:
        hold: see `Seen.replay`.
        gated: whether activations multiply something else; what is held of one that does not is its ratio to what went
            in.
        scales: what biases are multiplied by.
    """
    with _Wide(), _Hold(hold, gated, scales):
        yield


def is_gated(model: Any) -> bool:
    """Whether the layers of a text model multiply their activations with something else."""
    names = {name for name, _ in model.get_decoder().layers[0].named_modules()}
    return any("gate" in name.rpartition(".")[2] for name in names)


def _held_layer_norm(
    scales: BiasScales | None,
    x: torch.Tensor,
    shape: Sequence[int],
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    """Layer norm whose scale is a constant; over the last axis, as text models have it."""
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred * (centred.detach().pow(2).mean(-1, keepdim=True) + eps).rsqrt()
    scaled = scaled if weight is None else scaled * weight
    if bias is None:
        return scaled
    return scaled + (bias if scales is None else scales.of(bias, scaled))


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.dtype in _HALVES else value
