"""Granite-Vision 3: LLaVA-NeXT on SigLIP, several of its layers joined, and on a Granite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers as tf

from integration.families.test_llava_onevision import FINE, MUTANTS
from llava_doors.families.llava_next import LlavaNext
from llava_doors.family import Layout
from support import tiny_checkpoints as tiny
from support.family_places import ODD_SIZES, Size, check_counts, check_pixels, painted, sizes
from support.family_proofs import Proof, check_methods, check_rows
from support.pictures import scene, scene_bytes

FLAT, TALL = scene_bytes(700, 90, seed=1), scene_bytes(100, 610, seed=3)
SHAPES = [
    *([384, 384 * cols] for cols in range(1, 11)), *([768, 384 * cols] for cols in range(1, 6)),
    *([1152, 384 * cols] for cols in range(1, 4)), *([384 * rows, 384 * cols] for rows in (4, 5) for cols in (1, 2)),
    *([384 * rows, 384] for rows in range(6, 11)),
]  # fmt: skip
"""As published: height and width of canvases."""


def checkpoint(folder: Path) -> Path:
    """A tiny one of the published layout."""
    factors = {"embedding_multiplier": 12.0, "residual_multiplier": 0.22, "logits_scaling": 8.0}
    half = [0.5, 0.5, 0.5]
    config = tf.LlavaNextConfig(
        text_config=tiny.text(tf.GraniteConfig, attention_multiplier=0.25, **factors),
        vision_config=tiny.siglip(layers=4), vision_feature_layer=[-4, -3, -2, -1],
        vision_feature_select_strategy="full", image_token_index=tiny.IMAGE_ID, image_grid_pinpoints=SHAPES,
    )  # fmt: skip
    side = {"height": 384, "width": 384}
    processor = tf.LlavaNextProcessor(
        tf.LlavaNextImageProcessorPil(
            size=side, crop_size=side, image_grid_pinpoints=SHAPES, image_mean=half, image_std=half
        ),
        tiny.tokenizer(), patch_size=14, vision_feature_select_strategy="full", num_additional_image_tokens=0,
        chat_template=tiny.template("<|user|>\n", "\n<|assistant|>\n"),
    )  # fmt: skip
    return tiny.write(folder, config, processor)


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    return Proof.of(checkpoint(tmp_path_factory.mktemp("tiny") / "granite"))


@pytest.mark.long
def test_rows_and_tokens_are_those_of_eager_attention(proof: Proof) -> None:
    assert isinstance(proof.engine.loaded.family, LlavaNext)
    one, two = check_rows(proof, [([FLAT], "What?"), ([TALL], "And a longer question?")])
    assert [(grid.name, grid.rows, grid.cols) for grid in one.grids] == [("base", 27, 27), ("detail", 7, 54)]
    assert [(grid.name, grid.rows, grid.cols) for grid in two.grids] == [("base", 27, 27), ("detail", 54, 9)]
    assert [note.code for note in one.facts.notes] == ["newline-tokens", "tile-ends"]


@pytest.mark.long
def test_two_pictures_in_one_prompt(proof: Proof) -> None:
    small = [scene_bytes(90, 60, seed=4), scene_bytes(60, 80, seed=5)]
    _, two = check_rows(proof, [(small[:1], "What?"), (small, "What differs?")], streamed=1)
    assert [grid.name for grid in two.grids] == ["image 1, base", "image 1, detail", "image 2, base", "image 2, detail"]


@pytest.mark.long
def test_counts_and_pixels_are_the_processors(proof: Proof) -> None:
    check_counts(proof, [*sizes(300), (5000, 20), (20, 5000)])
    check_pixels(proof, [scene(500, 330, 1), scene(100, 610, 2)])


@pytest.mark.long
def test_methods_make_their_maps(proof: Proof) -> None:
    check_methods(proof, ([scene_bytes(90, 60, seed=4)], "What?"))


@pytest.mark.long
def test_painted_patches_are_found_on_all_sizes(proof: Proof) -> None:
    right, whole = painted(proof, ODD_SIZES)
    print(f"painted {right} of {whole}")
    assert right >= 0.98 * whole > 1200


@pytest.mark.long
@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_formula_is_noticed(proof: Proof, name: str) -> None:
    wrong: Any
    wrong, size, most = MUTANTS[name]

    def layout_of(size: Size) -> Layout:
        layout = proof.engine.loaded.layout([size])
        return Layout(layout.expansions, (wrong(layout.grids[1]),))

    right, whole = painted(proof, [FINE if name == "without_ends" else size], layout_of, 1)
    print(f"{name}: {right} of {whole}")
    assert right < most * whole
