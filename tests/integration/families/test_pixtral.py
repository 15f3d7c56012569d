"""Pixtral: a grid of the image's own shape, break tokens after its rows, positions of two axes in the tower alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

from llava_doors.families.pixtral import Pixtral
from llava_doors.family import FamilyError, Layout, PatchGrid
from llava_server.ask.settings import SettingsError
from llava_server.run.static import StaticDecoder
from llava_wire.errors import RequestError
from support import tiny_checkpoints as tiny
from support.family_places import ODD_SIZES, Size, check_counts, check_pixels, painted, sizes
from support.family_proofs import Proof, check_methods, check_passes, check_rows
from support.pictures import scene, scene_bytes
from support.pixtral import pixtral_processor, pixtral_tower, spelt

FLAT, TALL, WIDE = scene_bytes(400, 90, seed=1), scene_bytes(150, 410, seed=3), scene_bytes(300, 230, seed=2)
QUESTIONS = [([FLAT], "What?"), ([TALL], "And a longer question?")]
SQUARE = {"height": 1024, "width": 1024}


def processor(**change: Any) -> Any:
    """Transformers' own for a tiny one."""
    return pixtral_processor(change, patch_size=16)


def config() -> Any:
    """The configuration of a tiny one."""
    return tf.LlavaConfig(
        text_config=tiny.text(tf.MistralConfig, sliding_window=None), vision_config=pixtral_tower(1024, 16),
        image_token_index=tiny.IMAGE_ID + 1, vision_feature_layer=-1, vision_feature_select_strategy="full",
    )  # fmt: skip


def checkpoint(folder: Path) -> Path:
    """A tiny one of the published layout."""
    return tiny.write(folder, config(), processor(), spelt)


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    return Proof.of(checkpoint(tmp_path_factory.mktemp("tiny") / "pixtral"), processor=processor())


def test_rows_and_tokens_are_those_of_eager_attention(proof: Proof) -> None:
    assert isinstance(proof.engine.loaded.family, Pixtral)
    one, two = check_rows(proof, QUESTIONS)
    assert [(grid.name, grid.rows, grid.cols) for grid in one.grids] == [("base", 6, 25)]
    assert [(grid.name, grid.rows, grid.cols) for grid in two.grids] == [("base", 26, 10)]
    assert [note.code for note in one.facts.notes] == ["break-tokens"]


@pytest.mark.long
def test_two_pictures_in_one_prompt(proof: Proof) -> None:
    _, two = check_rows(proof, [([WIDE], "What?"), ([TALL, FLAT], "What differs?")], streamed=1)
    assert [(grid.name, grid.rows) for grid in two.grids] == [("image 1, base", 26), ("image 2, base", 6)]


def test_counts_are_the_processors(proof: Proof) -> None:
    check_counts(proof, [*sizes(300), (1, 1), (16, 17), (4100, 21), (1024, 1025)])


def test_pixels_are_the_processors(proof: Proof) -> None:
    check_pixels(proof, [scene(500, 330, 1), scene(100, 610, 2)])


def test_a_needle_is_refused(proof: Proof) -> None:
    with pytest.raises(RequestError, match=r"got 4100 x 3 px, expected shapes up to 1024:1; crop it"):
        proof.engine.loaded.layout([(4100, 3)])


def test_a_processor_of_another_model_is_refused(proof: Proof) -> None:
    for change, got in (
        ({"do_resize": False}, "1024 and do_resize False"),
        ({"size": SQUARE}, "None and do_resize True"),
    ):
        with pytest.raises(FamilyError, match=f"image processor: got longest_edge {got}, expected px and True"):
            proof.engine.loaded.family.check_processor(processor(**change))


def test_what_an_image_processor_states_about_patches_is_not_used(proof: Proof) -> None:
    """Transformers' processor says the side of a patch on each call, too."""
    loaded, pictures = proof.engine.loaded, [scene(300, 230, 1)]
    made = loaded.family.inputs(processor(patch_size={"height": 14, "width": 14}), pictures)
    assert torch.equal(made["pixel_values"], loaded.family.inputs(loaded.processor, pictures)["pixel_values"])


def test_another_tower_is_not_taken() -> None:
    llava = tf.LlavaConfig(text_config=tiny.text(tf.LlamaConfig), vision_config=tiny.clip())
    with pytest.raises(FamilyError, match=r"config: got a clip_vision_model tower"):
        Pixtral().check(llava)


def test_compile_is_refused_by_name(proof: Proof) -> None:
    with pytest.raises(SettingsError, match=r"handler\.compile: got true for a model whose images take"):
        StaticDecoder(proof.engine.loaded, (1,), (64,), compiled=False)


@pytest.mark.long
def test_methods_make_their_maps(proof: Proof) -> None:
    check_methods(proof, QUESTIONS[0])


@pytest.mark.long
def test_checks_and_scorer_hide_patches(proof: Proof) -> None:
    check_passes(proof, QUESTIONS[1])


def test_painted_patches_are_found_where_the_layout_says(proof: Proof) -> None:
    right, whole = painted(proof, ODD_SIZES[-1:], rounds=1)
    assert right >= 0.98 * whole > 10


@pytest.mark.long
def test_painted_patches_are_found_on_all_sizes(proof: Proof) -> None:
    right, whole = painted(proof, ODD_SIZES)
    print(f"painted {right} of {whole}")
    assert right >= 0.98 * whole > 600


def without_breaks(grid: PatchGrid) -> PatchGrid:
    """No column of break tokens."""
    return replace(grid, tokens=range(grid.rows * grid.cols))


def squeezed(grid: PatchGrid) -> PatchGrid:
    """On a square of the longest edge."""
    [step] = grid.geometry.steps
    steps = (replace(step, width_px=1024, height_px=1024),)
    return replace(grid, geometry=replace(grid.geometry, steps=steps))


def test_a_wrong_formula_is_noticed(proof: Proof) -> None:
    right, whole = painted(proof, [(1000, 700)], changed(proof, squeezed), 1)
    print(f"squeezed: {right} of {whole}")
    assert right < 0.5 * whole


def test_forgotten_breaks_are_noticed(proof: Proof) -> None:
    """A patch would be a break token, which has no feature."""
    with pytest.raises(KeyError):
        painted(proof, [(333, 257)], changed(proof, without_breaks), 1)


def changed(proof: Proof, wrong: Callable[[PatchGrid], PatchGrid]) -> Callable[[Size], Layout]:
    """The family's layout with its grid changed."""

    def layout_of(size: Size) -> Layout:
        layout = proof.engine.loaded.layout([size])
        return Layout(layout.expansions, (wrong(layout.grids[0]),))

    return layout_of
