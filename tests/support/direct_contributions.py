"""What the method `contributions` should give: keys taken away one at a time from transformers' own model, in float64.

Flow: a plain forward with eager attention over prompt and answer -> weights, values, what norms and activations did to
each element -> for one row the model's own modules again, all that held, once for every key that is taken away -> how
much the logit fell. Nothing here differentiates anything, and nothing is the engine's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from integration.reference import processor_inputs
from llava_wire import Record

_NAME = "direct_contributions"
_ACTIVATIONS = ("act_fn", "act", "activation_fn")
"""What text models call the activation of their MLP."""


@dataclass(frozen=True)
class Direct:
    """What each row's number is made of.

    Args:
        total: [row], the logit of the word that follows less the mean logit, or less the rival's; of a plain forward.
        patches: [row, patch]. prompt, answer, itself, biases: [row].
    """

    total: np.ndarray
    patches: np.ndarray
    prompt: np.ndarray
    answer: np.ndarray
    itself: np.ndarray
    biases: np.ndarray

    def parts(self, names: Sequence[str]) -> np.ndarray:
        """[row, part]."""
        known = {"image": self.patches.sum(1), **vars(self)}
        return np.stack([known[name] for name in names], -1)


@dataclass
class _Kept:
    """What one forward over the whole text did: [1, position, ...] by module; weights and values by layer."""

    norms: dict[Any, torch.Tensor]
    activations: dict[Any, torch.Tensor]
    weights: dict[int, torch.Tensor]
    values: dict[int, torch.Tensor]


@torch.no_grad()
def direct(
    model: Any, processor: Any, picture: bytes, record: Record, gated: bool, rivals: Sequence[int] | None = None
) -> Direct:
    """Contributions of every row of a record, by taking keys away.

    Args:
        model: of transformers, float64, of one picture.
        processor: its processor.
        picture: the file that was asked about.
        record: the answer, and which rows are shown.
        gated: whether activations of the MLP multiply something else.
        rivals: per row the word that the logit is held against; None for the mean of all.
    """
    prompt = processor_inputs(processor, [picture], [record.facts.prompt.text])
    answer = torch.tensor([[token.id for token in record.tokens]])
    ids = torch.cat([prompt["input_ids"], answer], 1)
    start = prompt["input_ids"].shape[1]
    image = (ids[0, :-1] == model.config.image_token_id).nonzero()[:, 0]
    pixels = prompt["pixel_values"].to(torch.float64)
    kept, entering, plain = _kept(model, {"input_ids": ids[:, :-1], "pixel_values": pixels}, gated)
    found = []
    for index, query in enumerate(record.queries):
        row = query.position
        word = int(ids[0, row + 1])

        def number(logits: torch.Tensor, word: int = word, rival: int | None = rivals and rivals[index]) -> Any:
            return logits[..., word] - (logits.mean(-1) if rival is None else logits[..., rival])

        total = number(plain[row])
        whole, lost, alone, biases = _without(model, kept, entering[row], row, number, gated)
        assert abs(whole - total) < 1e-5 * max(1, abs(total)), "with all held, nothing taken away is the model itself"
        assert abs(lost.sum() + alone + biases - whole) < 1e-9 * max(1, abs(whole)), "with all held it is linear"
        columns = torch.cat([lost, torch.zeros(len(ids[0]) - row)])
        picture_part, of_prompt = columns[image].sum(), columns[:start].sum()
        text = (of_prompt - picture_part, columns[start:].sum(), alone, biases)
        found.append((total, columns[image], *text))  # in the order of `Direct`
    return Direct(*(torch.stack(list(each)).numpy() for each in zip(*found, strict=True)))


def _without(
    model: Any, kept: _Kept, entering: torch.Tensor, row: int, number: Callable[[torch.Tensor], Any], gated: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The number; by how much it falls when one earlier key is not read [key], when the row's own embedding is zero;
    what is left without both."""
    given = entering.repeat(row + 3, 1)  # one key less each; nothing less; no own token; neither
    given[-2:] = 0
    reads = torch.ones(row + 3, row)
    reads[:row] -= torch.eye(row)
    reads[-1] = 0
    numbers = number(_frozen(model, kept, given, row, reads, gated))
    return numbers[row], numbers[row] - numbers[:row], numbers[row] - numbers[-2], numbers[-1]


def _kept(model: Any, inputs: dict[str, torch.Tensor], gated: bool) -> tuple[_Kept, torch.Tensor, torch.Tensor]:
    """A plain forward: what it did, what went into the first layer [position, width], logits [position, vocabulary]."""
    kept = _Kept({}, {}, {}, {})
    entering: list[torch.Tensor] = []

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **more: Any) -> Any:
        own = sys.modules[type(module).__module__].eager_attention_forward
        output, weights = own(module, query, key, value, mask, scaling=scaling, **more)
        kept.weights[module.layer_idx] = weights[0].double()
        kept.values[module.layer_idx] = value[0].repeat_interleave(weights.shape[1] // value.shape[1], 0)
        return output, weights

    def norm(module: Any, args: Any, output: torch.Tensor) -> None:
        if _is_centred(module):
            eps = module.eps if hasattr(module, "eps") else module.variance_epsilon
            kept.norms[module] = (args[0].var(-1, keepdim=True, correction=0) + eps).rsqrt()
        else:
            kept.norms[module] = output.double() / args[0]

    def activation(module: Any, args: Any, output: torch.Tensor) -> None:
        kept.activations[module] = output if gated else output / args[0]

    def enter(module: Any, args: Any, options: dict[str, Any]) -> None:
        entering.append(options["inputs_embeds"][0])

    handles = [one.register_forward_hook(norm) for one in _norms(model)]
    handles += [one.register_forward_hook(activation) for one in _activations(model)]
    handles.append(model.get_decoder().register_forward_pre_hook(enter, with_kwargs=True))
    with _attending(model, attend, handles):
        logits = model(**inputs, attention_mask=torch.ones_like(inputs["input_ids"]), use_cache=False).logits[0]
    return kept, entering[0], logits


def _frozen(model: Any, kept: _Kept, given: torch.Tensor, row: int, reads: torch.Tensor, gated: bool) -> torch.Tensor:
    """[variant, vocabulary]: one row's logits with everything held.

    Args:
        model, kept: the model and what it did.
        given: [variant, width], what goes in.
        row: its position.
        reads: [variant, key], 1 where an earlier key is read, 0 where it is taken away.
        gated: see `direct`.
    """

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **more: Any) -> Any:
        weights, values = kept.weights[module.layer_idx][:, row], kept.values[module.layer_idx]
        earlier = torch.einsum("bk,hk,hkd->bhd", reads.double(), weights[:, :row], values[:, :row])
        own = value[:, :, 0].repeat_interleave(len(weights) // value.shape[1], 1)  # [variant, head, head_dim]
        return (earlier + weights[:, row, None] * own)[:, None], None

    def norm(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        x, factor = args[0], kept.norms[module][:, row : row + 1]
        if _is_centred(module):
            bias = getattr(module, "bias", None)
            return (x - x.mean(-1, keepdim=True)) * factor * module.weight + (0 if bias is None else bias)
        return x * factor

    def activation(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        factor = kept.activations[module][:, row : row + 1]
        return factor.expand_as(output) if gated else args[0] * factor

    handles = [one.register_forward_hook(norm) for one in _norms(model)]
    handles += [one.register_forward_hook(activation) for one in _activations(model)]
    mask = torch.ones((len(given), 1), dtype=torch.int64)
    with _attending(model, attend, handles):
        logits: torch.Tensor = model(inputs_embeds=given[:, None], attention_mask=mask, use_cache=False).logits[:, 0]
    return logits


@contextmanager
def _attending(model: Any, attend: Callable[..., Any], handles: Sequence[Any]) -> Iterator[None]:
    """Within it the text model attends by this function; the hooks end with it."""
    AttentionInterface.register(_NAME, attend)
    AttentionMaskInterface.register(_NAME, eager_mask)
    before = model.get_decoder().config._attn_implementation
    model.set_attn_implementation({"text_config": _NAME})
    try:
        yield
    finally:
        model.set_attn_implementation({"text_config": before})
        for handle in handles:
            handle.remove()


def _norms(model: Any) -> list[Any]:
    """All but those of queries and keys, which have no part in a row whose weights are held."""
    named = [(name.rpartition(".")[2], one) for name, one in model.get_decoder().named_modules()]
    found = [one for name, one in named if name not in ("q_norm", "k_norm")]
    return [one for one in found if "RMSNorm" in type(one).__name__ or _is_centred(one)]


def _is_centred(module: Any) -> bool:
    """Whether a norm takes the mean away."""
    return type(module).__name__.endswith("LayerNorm")


def _activations(model: Any) -> list[Any]:
    """Every layer's own."""
    layers = model.get_decoder().layers
    found = [getattr(layer.mlp, name) for layer in layers for name in _ACTIVATIONS if hasattr(layer.mlp, name)]
    assert len(set(found)) == len(layers)
    return found
