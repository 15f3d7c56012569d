"""Stages: what a step learns from follows the mirror, and batches of things are those their model was made of."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from shapes.scenes import COLOURS, SHAPES
from shapes.world import ShapesWorld
from teach.model import build_model
from teach.pool import Pool, patch_labels
from teach.stages import AnswerStage, StageSettings, Taught, VisionStage
from teach.tokens import wrap_pieces
from things.scenes import make_scene
from things.world import ThingsWorld

STORE = Path(__file__).parents[3] / "model_store"


def test_patch_targets_follow_the_mirror(taught):
    stage = VisionStage(taught, StageSettings("stage 0", steps=4, batch=8, learning_rate=1e-3, warm_up=2))
    batch = stage.batch(0)
    assert batch["mirrored"].any(0).all(), "some are mirrored left to right, some top to bottom"
    classes, centres = batch["classes"].reshape(8, 64, 2).numpy(), batch["centres"].reshape(8, 64, 2).numpy()
    for (colour, shape), centre, layout in zip(classes.swapaxes(1, 2), centres, taught.layouts(batch), strict=True):
        assert set(np.unique(colour)) == {0, *(1 + list(COLOURS).index(thing.colour) for thing in layout.objects)}
        for thing in layout.objects:
            mine = (colour == 1 + list(COLOURS).index(thing.colour)) & (shape == 1 + SHAPES.index(thing.shape))
            target = np.array(layout.in_crop(thing.centre)) * 2 - 1
            assert np.allclose(centre[mine], target, atol=1e-5)
            columns, rows = np.flatnonzero(mine) % 8, np.flatnonzero(mine) // 8
            found = np.array([columns.mean() + 0.5, rows.mean() + 0.5]) / 4 - 1
            assert np.abs(found - target).max() < 0.25, "labels and centre are of the same, mirrored image"


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("down", [False, True])
def test_pixels_and_layouts_are_mirrored_alike(taught, across, down):
    plain = {"numbers": torch.tensor([5]), "mirrored": torch.tensor([[False, False]])}
    turned = plain | {"mirrored": torch.tensor([[across, down]])}
    axes = [axis for axis, flip in ((3, across), (2, down)) if flip]
    assert torch.equal(taught.pixel_values(turned), taught.pixel_values(plain).flip(axes))
    [layout], [mirrored] = taught.layouts(plain), taught.layouts(turned)
    assert mirrored == layout.flipped(horizontally=across, vertically=down)


def test_the_ground_weighs_what_its_stage_says(taught):
    light, heavy = (
        VisionStage(taught, StageSettings("stage 0", 4, 4, 1e-3, 2, ground_weight=weight)) for weight in (0.2, 0.9)
    )
    heavy.modules()["head"].load_state_dict(light.modules()["head"].state_dict())
    with torch.no_grad():
        assert float(light.loss(light.batch(0))[0]) != pytest.approx(float(heavy.loss(heavy.batch(0))[0]))


def test_looked_up_words_weigh_what_their_stage_says(taught):
    plain, heavy = (
        AnswerStage(taught, StageSettings("stage 1", 4, 4, 1e-3, 2, look_up_weight=weight, turns=4))
        for weight in (1.0, 3.0)
    )
    with torch.no_grad():
        (once, metrics), (more, _) = plain.loss(plain.batch(0)), heavy.loss(heavy.batch(0))
    assert float(more) > float(once)
    assert {*metrics} == {"tokens right", "names right", "looked up right"}


def digest(part: torch.Tensor) -> str:
    return hashlib.sha256(np.ascontiguousarray(part.numpy()).tobytes()).hexdigest()[:16]


def test_batches_of_things_are_those_that_their_model_was_made_of():
    """Numbers as they were when llava-things was trained: mirrored left to right alone, by one draw per picture."""
    world = ThingsWorld()
    tokenizer = wrap_pieces(Tokenizer.from_file(str(STORE / "llava-things" / "tokenizer.json")), world.words)
    scenes = [make_scene(random.Random(f"12345 scene {number}"), side_px=224) for number in range(6)]
    made = Pool(np.zeros(0), np.stack([patch_labels(one, 14) for one in scenes]), [one.layout for one in scenes])
    pixels, rest = torch.zeros(6, 1, 1, 3), ((0.0,) * 3, (1.0,) * 3)
    with torch.device("meta"):
        model = build_model(world, tokenizer)
    taught = Taught(world, model, tokenizer, made, pixels, 0, *rest)
    told = AnswerStage(taught, StageSettings("stage 1", 4, 4, 1e-3, 2, turns=3)).batch(0)
    assert told["numbers"].tolist() == [2, 1, 5, 4]
    assert told["mirrored"].tolist() == [[True, False], [True, False], [True, False], [False, False]]
    assert {name: digest(told[name]) for name in ("ids", "targets", "positions", "segments")} == {
        "ids": "18c5fb43e127c558",
        "targets": "9d98f12451d4fdae",
        "positions": "edc752eae5cfa718",
        "segments": "9e3f69b2051d3e41",
    }
    seen = VisionStage(taught, StageSettings("stage 0", 4, 4, 1e-3, 2)).batch(3)
    assert seen["numbers"].tolist() == [5, 1, 2, 0]
    assert seen["mirrored"].tolist() == [[False, False], [False, False], [True, False], [False, False]]
    assert (digest(seen["classes"]), digest(seen["centres"])) == ("4eafb872a7848ea1", "5ff664b5f95dec39")


def test_worlds_say_how_their_pictures_may_be_mirrored():
    assert {*ShapesWorld.mirrors} == {"across", "down"}
    assert {*ThingsWorld.mirrors} == {"across"}
