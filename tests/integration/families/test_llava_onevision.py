"""LLaVA-OneVision: SigLIP tiles with ends that no patch reads, pooled where they are many; several images, one grid
each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import transformers as tf

from llava_doors.families.llava_onevision import LlavaOnevision
from llava_doors.family import FamilyError, Layout, PatchGrid
from llava_server.ask.settings import SettingsError
from llava_server.run.static import StaticDecoder
from llava_wire.errors import RequestError
from llava_wire.grids import Step
from support import tiny_checkpoints as tiny
from support.family_places import ODD_SIZES, Size, check_counts, check_pixels, counted, painted, sizes
from support.family_proofs import Proof, check_methods, check_passes, check_rows
from support.pictures import scene, scene_bytes

FLAT, TALL, WIDE = scene_bytes(700, 90, seed=1), scene_bytes(100, 610, seed=3), scene_bytes(500, 330, seed=2)
SHAPES = [[384 * rows, 384 * cols] for rows in range(1, 7) for cols in range(1, 7)]
"""As published: height and width of canvases."""
FINE, POOLED = (333, 257), (900, 900)
"""A size whose detail grid is as it is, and one whose grid is pooled by 2."""
MIDDLE = ((0.3, 0.7),)
"""What is painted of pooled patches, whose sides are read by their neighbours too."""


def processor() -> Any:
    """Transformers' own, for pictures."""
    half = [0.5, 0.5, 0.5]
    return tiny.pictures_only(
        tf.LlavaOnevisionProcessor,
        tf.LlavaOnevisionImageProcessorPil(image_grid_pinpoints=SHAPES, image_mean=half, image_std=half),
        tiny.tokenizer("<video>", "<|im_start|>", "<|im_end|>", bos=False),
        num_image_tokens=729,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
        chat_template=tiny.template("<|im_start|>user ", "<|im_end|><|im_start|>assistant\n"),
    )


def config(**change: Any) -> Any:
    """The configuration of a tiny one."""
    return tf.LlavaOnevisionConfig(
        **{
            "text_config": tiny.text(tf.Qwen2Config, bos_token_id=None),
            "vision_config": tiny.siglip(layers=1),
            "image_token_index": tiny.IMAGE_ID,
            "video_token_index": tiny.IMAGE_ID + 1,
            "image_grid_pinpoints": SHAPES,
            **change,
        }
    )


def checkpoint(folder: Path) -> Path:
    """A tiny one of the published layout."""
    return tiny.write(folder, config(), processor())


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    return Proof.of(checkpoint(tmp_path_factory.mktemp("tiny") / "onevision"), processor=processor())


def test_rows_and_tokens_are_those_of_eager_attention(proof: Proof) -> None:
    one, two = check_rows(proof, [([FLAT], "What?"), ([TALL], "And a longer question?")])
    assert [(grid.name, grid.rows, grid.cols) for grid in one.grids] == [("base", 27, 27), ("detail", 7, 54)]
    assert [(grid.name, grid.rows, grid.cols) for grid in two.grids] == [("base", 27, 27), ("detail", 54, 9)]
    assert [note.code for note in one.facts.notes] == ["newline-tokens", "tile-ends", "pooled-detail", "several-images"]


@pytest.mark.long
def test_several_images_are_padded_grids(proof: Proof) -> None:
    """One image, and two whose grids take no tiles, in one batch."""
    _, two = check_rows(proof, [([FLAT], "What?"), ([TALL, WIDE], "What differs?")], streamed=1)
    found = [(grid.name, grid.rows, grid.cols) for grid in two.grids]
    assert found == [("image 1, base", 27, 27), ("image 2, base", 27, 27)]
    assert [step.op for step in two.grids[0].steps] == ["pad", "resize"]


def test_counts_are_the_processors(proof: Proof) -> None:
    check_counts(proof, [*sizes(300), (5000, 20), (20, 5000), (1, 1), (384, 384)])
    assert proof.engine.loaded.layout([POOLED]).tokens == 729 + 81 * 82
    assert proof.engine.loaded.layout([FINE, POOLED]).tokens == 2 * counted_together(proof)


def counted_together(proof: Proof) -> int:
    """Tokens that the processor writes for each of two images."""
    made = proof.processor(text=["<image><image>"], images=[[scene(100, 66, 1), scene(80, 90, 2)]], return_tensors="pt")
    return int((made["input_ids"] == tiny.IMAGE_ID).sum()) // 2


def test_pixels_are_the_processors(proof: Proof) -> None:
    check_pixels(proof, [scene(500, 330, 1)])
    check_pixels(proof, [scene(500, 330, 1), scene(100, 610, 2)])
    assert counted(proof, (500, 330)) == proof.engine.loaded.layout([(500, 330)]).tokens


def test_a_needle_among_several_is_refused(proof: Proof) -> None:
    """It would lie on a square canvas of gigabytes."""
    with pytest.raises(RequestError, match=r"got 60000 x 5 px, expected shapes up to 32:1"):
        proof.engine.loaded.layout([(60000, 5), (50, 50)])


def test_compile_is_refused_by_name(proof: Proof) -> None:
    with pytest.raises(SettingsError, match=r"handler\.compile: got true for a model whose images take"):
        StaticDecoder(proof.engine.loaded, (1,), (64,), compiled=False)


def test_another_pooling_is_refused() -> None:
    with pytest.raises(FamilyError, match=r"config\.vision_aspect_ratio: got 'square', expected 'anyres_max_9'"):
        LlavaOnevision().check(config(vision_aspect_ratio="square"))


@pytest.mark.long
def test_methods_make_their_maps(proof: Proof) -> None:
    check_methods(proof, ([TALL], "What?"))


@pytest.mark.long
def test_checks_and_scorer_hide_patches_of_both_grids(proof: Proof) -> None:
    check_passes(proof, ([TALL], "What?"))


def test_painted_patches_are_found_where_the_layout_says(proof: Proof) -> None:
    right, whole = painted(proof, [FINE], rounds=1)
    assert right >= 0.98 * whole > 50


@pytest.mark.long
def test_painted_patches_are_found_on_all_sizes(proof: Proof) -> None:
    right, whole = painted(proof, ODD_SIZES, parts=MIDDLE)
    print(f"painted {right} of {whole}")
    assert right >= 0.98 * whole > 1200


def tile_by_tile(grid: PatchGrid) -> PatchGrid:
    """Patches in the order of the tiles, as the vision tower makes them."""
    across, most = -(-grid.cols // 27), 728 + grid.rows * (grid.cols + 1)

    def token(row: int, col: int) -> int:
        return 729 + ((row // 27) * across + col // 27) * 729 + row % 27 * 27 + col % 27

    tokens = [min(token(row, col), most) for row in range(grid.rows) for col in range(grid.cols)]
    return replace(grid, tokens=tokens)


def without_newlines(grid: PatchGrid) -> PatchGrid:
    """No column of newlines."""
    return replace(grid, tokens=range(729, 729 + grid.rows * grid.cols))


def with_padding(grid: PatchGrid) -> PatchGrid:
    """The canvas as it was before rows or columns of padding were left out, squeezed into those that are there."""
    steps = tuple(
        Step("resize", step.width_px, step.height_px) if step.op == "crop" else step for step in grid.geometry.steps
    )
    return replace(grid, geometry=replace(grid.geometry, steps=steps))


def without_ends(grid: PatchGrid) -> PatchGrid:
    """Tiles whose patches reach their ends."""
    steps = tuple(
        Step("resize", step.width_px, step.height_px) if step.op == "trim" else step for step in grid.geometry.steps
    )
    return replace(grid, geometry=replace(grid.geometry, steps=steps))


MUTANTS: dict[str, tuple[Callable[[PatchGrid], PatchGrid], Size, float]] = {
    "tile_by_tile": (tile_by_tile, (1000, 700), 0.5),
    "without_newlines": (without_newlines, (1000, 700), 0.5),
    "with_padding": (with_padding, (1000, 700), 0.5),
    "without_ends": (without_ends, FINE, 0.95),
}
"""Wrong formulas, a size that shows each, and what they score less than."""


@pytest.mark.long
@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_formula_is_noticed(proof: Proof, name: str) -> None:
    wrong, size, most = MUTANTS[name]

    def layout_of(size: Size) -> Layout:
        layout = proof.engine.loaded.layout([size])
        return Layout(layout.expansions, (wrong(layout.grids[1]),))

    right, whole = painted(proof, [size], layout_of, 1)
    print(f"{name}: {right} of {whole}")
    assert right < most * whole
