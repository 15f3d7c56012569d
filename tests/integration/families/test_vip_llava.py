"""ViP-LLaVA: image tokens of several layers of the vision tower."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers as tf

from llava_doors.families.vip_llava import VipLlava
from llava_doors.family import FamilyError
from support import tiny_checkpoints as tiny
from support.family_places import ODD_SIZES, check_counts, check_pixels, painted, sizes
from support.family_proofs import Proof, check_methods, check_rows, check_static
from support.pictures import scene, scene_bytes

QUESTIONS = [([scene_bytes(500, 330, seed=1)], "What?"), ([scene_bytes(260, 410, seed=2)], "And a longer question?")]
VISION_LAYERS = [-2, -3, -4, 1]


def checkpoint(folder: Path) -> Path:
    """A tiny one of the published layout."""
    config = tf.VipLlavaConfig(
        text_config=tiny.text(tf.LlamaConfig), vision_config=tiny.clip(layers=5),
        image_token_index=tiny.IMAGE_ID, vision_feature_layers=VISION_LAYERS,
    )  # fmt: skip
    processor = tiny.clip_processor(tiny.template("###Human: ", "###Assistant:"))
    tiny.write(folder, config, processor)
    path = folder / "config.json"
    stated = json.loads(path.read_text())
    stated.pop("vision_feature_layer", None)
    # As published: the key's earlier name.
    path.write_text(json.dumps(stated | {"vision_feature_layers": VISION_LAYERS}))
    return folder


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    return Proof.of(checkpoint(tmp_path_factory.mktemp("tiny") / "vip-llava"))


def test_rows_and_tokens_are_those_of_eager_attention(proof: Proof) -> None:
    assert isinstance(proof.engine.loaded.family, VipLlava)
    assert proof.engine.loaded.model.model.multi_modal_projector.linear_1.in_features == 4 * 32
    check_rows(proof, QUESTIONS, streamed=1)


def test_counts_and_pixels_are_the_processors(proof: Proof) -> None:
    check_counts(proof, sizes(300))
    check_pixels(proof, [scene(500, 330, 1)])


def test_tokens_are_made_of_the_layers_that_are_named(proof: Proof) -> None:
    """A change of the tower's first layer reaches all tokens, one of its last, which is not among them, none."""
    loaded = proof.engine.loaded
    inputs = loaded.family.inputs(loaded.processor, [scene(500, 330, 1)])
    before = loaded.family.features(loaded.model, inputs)
    named = dict(loaded.model.model.vision_tower.named_parameters())
    for layer, moves in ((0, True), (4, False)):
        [weight] = [one for name, one in named.items() if name.endswith(f"layers.{layer}.mlp.fc2.weight")]
        with torch.no_grad():
            weight.neg_()
            moved = (loaded.family.features(loaded.model, inputs) != before).any(-1)
            weight.neg_()
        assert bool(moved.all()) is bool(moved.any()) is moves


def test_a_tower_without_a_class_token_is_refused() -> None:
    config = tf.VipLlavaConfig(text_config=tiny.text(tf.LlamaConfig), vision_config=tiny.siglip())
    with pytest.raises(FamilyError, match=r"vision_config\.model_type: got 'siglip_vision_model', expected 'clip"):
        VipLlava().check(config)


@pytest.mark.long
def test_static_buffers_give_the_same(proof: Proof) -> None:
    check_static(proof, QUESTIONS)


@pytest.mark.long
def test_methods_make_their_maps(proof: Proof) -> None:
    check_methods(proof, QUESTIONS[0])


@pytest.mark.long
def test_painted_patches_are_found_where_the_layout_says(proof: Proof) -> None:
    right, whole = painted(proof, ODD_SIZES)
    assert right >= 0.98 * whole > 300
