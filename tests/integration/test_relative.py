"""Relative attention: a row against the row of a generic prompt, as the eager model has both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from integration.reference import processor_inputs
from llava_server.ask.request import GenerateRequest
from llava_wire import RequestError
from support.methods import (
    EVERY_HEAD,
    PROMPTS,
    ask,
    close,
    eager_pass,
    flat,
    same_in_every_way,
    same_in_half_precision,
)  # fmt: skip

GENERIC = "Write a general description of the image."
OPTIONS = {**EVERY_HEAD, "method": "relative"}


@torch.no_grad()
def generic(model: Any, processor: Any, picture: bytes, prompt: str = GENERIC) -> np.ndarray:
    """[layer, head, patch]: the last row of the prompt by output_attentions."""
    inputs = processor_inputs(processor, [picture], [prompt])
    image = inputs["input_ids"][0] == model.config.image_token_id
    attentions = model(**inputs, output_attentions=True).attentions
    return torch.stack([layer[0, :, -1, image] for layer in attentions]).numpy()


@pytest.mark.parametrize("which", ["own heads", "grouped heads"])
def test_every_layer_and_head_equals_the_direct_computation(which, engine, eager, grouped, pictures):
    ours, model = (engine, eager) if which == "own heads" else grouped
    processor = ours.loaded.processor
    wanted = {
        "difference": lambda rows, other: rows - other,
        "ratio": lambda rows, other: rows / (other + 0.001),
    }
    for form, compared in wanted.items():
        found = ask(ours, pictures, {**OPTIONS, "parameters": {"form": form}})
        for picture, record in zip(pictures, found, strict=True):
            rows = eager_pass(model, processor, picture, record).patches.numpy()
            close(flat(record), compared(rows, generic(model, processor, picture)), 5e-5)


def test_prompt_and_epsilon_are_parameters_and_means_come_before_the_ratio(engine, eager, pictures):
    asked = {"prompt": "What is this?", "form": "ratio", "epsilon": 0.1}
    [record] = ask(engine, pictures[:1], {**OPTIONS, "reduction": "layers_heads", "parameters": asked})
    rows = eager_pass(eager, engine.loaded.processor, pictures[0], record).patches.numpy().mean((1, 2))
    other = generic(eager, engine.loaded.processor, pictures[0], "What is this?").mean((0, 1))
    close(flat(record), rows / (other + 0.1))


def test_each_form_has_a_quantity_of_its_own(engine, pictures):
    views = [{"name": form, "method": "relative", "parameters": {"form": form}} for form in ("difference", "ratio")]
    [record] = ask(engine, pictures[:1], {"views": views, "max_new_tokens": 6})
    difference, ratio = (record.views[name] for name in ("difference", "ratio"))
    assert (difference.quantity.unit, difference.quantity.signed, difference.shares) == ("share", True, None)
    assert (ratio.quantity.unit, ratio.quantity.signed, ratio.quantity.additive) == ("ratio", False, False)
    assert difference.patches_float().min() < 0 < ratio.patches_float().max()
    assert ratio.patches_float().min() >= 0
    assert difference.facts.method.parameters == {"prompt": GENERIC, "form": "difference", "epsilon": 0.001}


def test_the_same_prompt_leaves_nothing_in_its_first_row(engine, pictures):
    asked = {"prompt": PROMPTS[0]}
    [record] = ask(engine, pictures[:1], {**OPTIONS, "parameters": asked})
    assert np.abs(flat(record)[0]).max() < 1e-6
    assert np.abs(flat(record)[1:]).max() > 1e-2


@pytest.mark.parametrize(
    ("parameters", "field", "says"),
    [
        ({"form": "quotient"}, "options.parameters.form", "expected one of ['difference', 'ratio']"),
        ({"epsilon": 0}, "options.parameters.epsilon", "a finite number above 1e-06"),
        ({"epsilon": 1e300}, "options.parameters.epsilon", "expected up to 1.0"),
        ({"epsilon": float("nan")}, "options.parameters.epsilon", "a finite number"),
        ({"prompt": " "}, "options.parameters.prompt", "something to see in it"),
    ],
)
def test_what_it_cannot_be_is_refused(parameters, field, says, engine, pictures):
    with pytest.raises(RequestError, match="got") as refused:
        engine.estimate(GenerateRequest.build(pictures[0], PROMPTS[0], {**OPTIONS, "parameters": parameters}))
    assert (refused.value.field, refused.value.code) == (field, "invalid")
    assert says in refused.value.message


def test_a_batch_a_replay_and_static_buffers_give_the_same(engine, static_engine, pictures):
    same_in_every_way(engine, static_engine, pictures, OPTIONS)


def test_half_precision(half_engine, engine, pictures):
    same_in_half_precision(half_engine, engine, pictures, {**OPTIONS, "reduction": "layers_heads"})
