"""The world of shapes: the model's tokens and size are those of the shipped weights, its held-out scenes repeat."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer

from shapes.sightings import held_out
from shapes.train import PLAN
from shapes.world import ShapesWorld
from teach.model import build_model, build_processor
from teach.tokens import train_pieces, wrap_pieces

FOLDER = Path(__file__).parents[3] / "model_store" / "llava-shapes"


@pytest.fixture(scope="module")
def pieces() -> Tokenizer:
    return train_pieces(ShapesWorld(), 0)


@pytest.fixture(scope="module")
def shipped() -> Tokenizer:
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


def test_the_tokenizer_is_the_shipped_one(pieces, shipped):
    assert pieces.get_vocab() == shipped.get_vocab()
    assert len(pieces.get_vocab()) == 407
    ours, theirs = (json.loads(one.to_str())["model"] for one in (pieces, shipped))
    assert ours["merges"] == theirs["merges"]
    for item in held_out(1, 3):
        text = f"USER: <image>\n{item.question.text} ASSISTANT: {item.question.answer}"
        assert pieces.encode(text).ids == shipped.encode(text).ids


def test_the_tokenizer_is_the_same_every_time(pieces):
    assert train_pieces(ShapesWorld(), 0).get_vocab() == pieces.get_vocab()


def test_the_model_has_the_size_of_the_shipped_one(shipped):
    world = ShapesWorld()
    tokenizer = wrap_pieces(shipped, world.words)
    with torch.device("meta"):
        model = build_model(world, tokenizer)
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_654_656
    with safe_open(FOLDER / "model.safetensors", "pt") as weights:
        count = sum(weights.get_slice(name).get_shape() != [] for name in weights.keys())  # noqa: SIM118
        assert count == len(dict(model.named_parameters()))
    config, kept = model.config.to_dict(), json.loads((FOLDER / "config.json").read_text("utf-8"))
    for part, names in {
        "vision_config": ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "patch_size"),
        "text_config": ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"),
    }.items():
        assert {name: config[part][name] for name in names} == {name: kept[part][name] for name in names}
    template = (FOLDER / "chat_template.jinja").read_text("utf-8")
    assert build_processor(world, tokenizer).chat_template == template


def test_the_recipe_is_the_one_on_the_card():
    card = (FOLDER / "README.md").read_text("utf-8")
    assert f"{PLAN.scenes:,} generated scenes" in card
    zero, one, two = PLAN.stages
    assert f"{zero.steps:,} steps of {zero.batch} images" in card
    assert f"**Stage 1**, {one.steps:,} steps, and **stage 2**, {two.steps:,} steps, of {one.batch} images" in card
    assert f"× {one.turns} questions" in card
    assert (PLAN.seed, PLAN.device, PLAN.workers) == (0, "cpu", 0)
    assert (one.batch, one.turns) == (two.batch, two.turns)
    assert f"weigh\n  {one.look_up_weight:.0f} and then {two.look_up_weight:.0f}" in card


def test_held_out_scenes_repeat_by_seed_and_differ_between_seeds():
    one, again, other = held_out(5, 3), held_out(5, 3), held_out(6, 3)
    assert [item.question for item in one] == [item.question for item in again]
    assert one[0].scene.layout != other[0].scene.layout
    assert {item.question.kind for item in one} >= {"describe", "exists-yes", "exists-no", "count"}
