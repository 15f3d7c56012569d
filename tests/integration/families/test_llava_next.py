"""LLaVA-NeXT: a grid of the whole image and one of its tiles, with newlines, on the text models that it comes with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

from integration.test_geometry import coordinates
from llava_doors.families.llava_next import LlavaNext
from llava_doors.family import FamilyError, Layout, PatchGrid
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import SettingsError
from llava_server.run.static import StaticDecoder
from llava_wire import Record
from support import tiny_checkpoints as tiny
from support.family_places import ODD_SIZES, Size, check_counts, check_pixels, painted, sizes
from support.family_proofs import Proof, check_methods, check_passes, check_rows
from support.pictures import scene, scene_bytes

FLAT, WIDE, TALL = scene_bytes(700, 90, seed=1), scene_bytes(500, 330, seed=2), scene_bytes(100, 610, seed=3)
QUESTIONS = [([FLAT], "What?"), ([TALL], "And a longer question?")]
SHAPES = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
"""As published: height and width of canvases."""
NEEDLES = [(5000, 20), (20, 5000), (3000, 41), (41, 3000)]


def vicuna() -> tuple[Any, Any]:
    """Text model and template of llava-v1.6-vicuna-7b."""
    return tiny.text(tf.LlamaConfig, max_position_embeddings=4096), tiny.template("USER: ", " ASSISTANT:")


def mistral() -> tuple[Any, Any]:
    """Of llava-v1.6-mistral-7b: a Mistral without a window."""
    return tiny.text(tf.MistralConfig, sliding_window=None, rope_theta=1e6), tiny.template("[INST] ", " [/INST]")


def llama3() -> tuple[Any, Any]:
    """Of llama3-llava-next-8b: roles are special tokens, more ids than the tokenizer has."""
    head = "<|start_header_id|>{}<|end_header_id|>\n\n"
    chat = tiny.template(head.format("user"), "<|eot_id|>" + head.format("assistant"))
    return tiny.text(tf.LlamaConfig, rope_theta=5e5, vocab_size=384), chat


TEXTS: dict[str, Callable[[], tuple[Any, Any]]] = {"vicuna": vicuna, "mistral": mistral, "llama3": llama3}


def checkpoint(folder: Path, kind: str = "vicuna") -> Path:
    """A tiny one of the published layout."""
    text, chat = TEXTS[kind]()
    config = tf.LlavaNextConfig(
        text_config=text, vision_config=tiny.clip(), image_token_index=tiny.IMAGE_ID, image_grid_pinpoints=SHAPES
    )
    images = tf.LlavaNextImageProcessorPil(
        size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}, image_grid_pinpoints=SHAPES
    )
    special = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>") if kind == "llama3" else ()
    processor = tf.LlavaNextProcessor(
        images, tiny.tokenizer(*special), patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=chat,
    )  # fmt: skip
    return tiny.write(folder, config, processor)


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    return Proof.of(checkpoint(tmp_path_factory.mktemp("tiny") / "next"))


def test_rows_and_tokens_are_those_of_eager_attention(proof: Proof) -> None:
    assert isinstance(proof.engine.loaded.family, LlavaNext)
    one, two = check_rows(proof, QUESTIONS)
    assert [(grid.name, grid.rows, grid.cols) for grid in one.grids] == [("base", 24, 24), ("detail", 10, 72)]
    assert [(grid.name, grid.rows, grid.cols) for grid in two.grids] == [("base", 24, 24), ("detail", 48, 8)]
    assert [note.code for note in one.facts.notes] == ["newline-tokens"]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["mistral", "llama3"])
def test_other_text_models(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    proof = Proof.of(checkpoint(tmp_path_factory.mktemp("tiny") / kind, kind))
    check_rows(proof, [([WIDE], "What?"), ([TALL, FLAT], "What differs?")])


@pytest.mark.long
def test_two_pictures_in_one_prompt(proof: Proof) -> None:
    _, two = check_rows(proof, [([WIDE], "What?"), ([TALL, FLAT], "What differs?")], streamed=1)
    assert [grid.name for grid in two.grids] == ["image 1, base", "image 1, detail", "image 2, base", "image 2, detail"]


def test_counts_are_the_processors(proof: Proof) -> None:
    check_counts(proof, [*sizes(300), *NEEDLES, (1, 1), (336, 336), (337, 335)])


def test_pixels_are_the_processors(proof: Proof) -> None:
    check_pixels(proof, [scene(500, 330, 1), scene(100, 610, 2)])


def test_a_needle_has_no_patches_of_tiles(proof: Proof) -> None:
    family = proof.engine.loaded.family
    for size in NEEDLES[:2]:
        layout = proof.engine.loaded.layout([size])
        assert [grid.name for grid in layout.grids] == ["base"]
        assert family.picture_bytes(layout, proof.engine.loaded.model.dtype) > 4 * 3 * 336**2 * 4
    [record] = proof.engine.run([GenerateRequest.build(scene_bytes(60, 5000, 1), "What?", {"max_new_tokens": 1})])
    assert isinstance(record, Record), record


def test_compile_is_refused_by_name(proof: Proof) -> None:
    with pytest.raises(SettingsError, match=r"handler\.compile: got true for a model whose images take"):
        StaticDecoder(proof.engine.loaded, (1,), (64,), compiled=False)


def test_estimates_follow_the_sizes(proof: Proof) -> None:
    sizes_of = [
        proof.engine.estimate(GenerateRequest.build(image, "What?", {})) for image in (FLAT, WIDE, [WIDE, FLAT])
    ]
    tokens = [proof.engine.loaded.layout(sizes).tokens for sizes in ([(700, 90)], [(500, 330)])]
    assert tokens == [576 + 10 * 73, 576 + 24 * 37]
    assert sizes_of[0].cache_bytes < sizes_of[1].cache_bytes < sizes_of[2].cache_bytes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_grid_pinpoints": [[336, 700]]}, r"config\.image_grid_pinpoints: got \[\[336, 700\]\], expected pairs"),
        ({"vision_feature_select_strategy": "full"}, r"vision_feature_select_strategy: got 'full' with a class token"),
    ],
)
def test_what_cannot_be_shown_in_place_is_refused(change: dict[str, Any], message: str) -> None:
    given = {"vision_config": tiny.clip(), "image_grid_pinpoints": SHAPES, **change}
    with pytest.raises(FamilyError, match=message):
        LlavaNext().check(tf.LlavaNextConfig(text_config=tiny.text(tf.LlamaConfig), **given))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_grid_pinpoints": SHAPES[:3]}, r"image processor: got image_grid_pinpoints .*expected the config"),
        ({"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}, r"image processor: got .*224"),
    ],
)
def test_a_processor_of_another_model_is_refused(proof: Proof, change: dict[str, Any], message: str) -> None:
    stated = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}, **change}
    other = tf.LlavaNextProcessor(tf.LlavaNextImageProcessorPil(**stated), tiny.tokenizer(), patch_size=14)
    with pytest.raises(FamilyError, match=message):
        proof.engine.loaded.family.check_processor(other)


@pytest.mark.long
def test_methods_make_their_maps(proof: Proof) -> None:
    check_methods(proof, ([TALL], "What?"))


@pytest.mark.long
def test_checks_and_scorer_hide_patches_of_both_grids(proof: Proof) -> None:
    check_passes(proof, ([TALL], "What?"))


def test_painted_patches_are_found_where_the_layout_says(proof: Proof) -> None:
    right, whole = painted(proof, ODD_SIZES[:1], rounds=1)
    assert right >= 0.98 * whole > 100


@pytest.mark.long
def test_painted_patches_are_found_on_all_sizes(proof: Proof) -> None:
    right, whole = painted(proof, ODD_SIZES)
    assert right >= 0.98 * whole > 1200


@pytest.mark.parametrize("size", [(1000, 700), (333, 257), (437, 811)])
def test_rectangles_agree_with_the_processors_pixels(proof: Proof, size: Size) -> None:
    """To half a processed pixel: red grows with x, green with y, and a patch's mean says where its middle is."""
    loaded = proof.engine.loaded
    processor, grid = proof.processor.image_processor, loaded.layout([size]).grids[1]
    made = loaded.family.inputs(loaded.processor, [coordinates(*size)])["pixel_values"][0, 1:].double()
    mean, std = (torch.tensor(value)[:, None, None] for value in (processor.image_mean, processor.image_std))
    _, canvas, crop = grid.geometry.steps
    tiles = (made * std + mean).mul(255).unflatten(0, (canvas.height_px // 336, -1))  # [tile row, col, 3, 336, 336]
    pixels = tiles.permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2)  # [3, height, width] of the canvas
    kept = pixels[:, crop.top_px :, crop.left_px :][:, : crop.height_px, : crop.width_px]
    found = kept.unflatten(2, (-1, 14)).unflatten(1, (-1, 14)).mean((2, 4))  # [3, row, col]
    rects = grid.geometry.patch_rects()[2:-2, 2:-2]  # what is interpolated over the border is left out
    for axis in (0, 1):
        middle = (rects[..., axis] + rects[..., axis + 2]) / 2
        pixel = (rects[0, 0, axis + 2] - rects[0, 0, axis]) / 14
        told = (found[axis, 2:-2, 2:-2].numpy() - 25) / 200 * size[axis]
        assert abs(told - middle).max() < 0.5 * pixel


def tile_by_tile(layout: Layout, size: Size) -> Layout:
    """Patches in the order of the tiles, as the vision tower makes them."""
    return _detail(layout, lambda grid: _with(grid, lambda row, col: _tile_major(grid, row, col)))


def _tile_major(grid: PatchGrid, row: int, col: int) -> int:
    across = -(-grid.cols // 24)
    return 576 + ((row // 24) * across + col // 24) * 576 + row % 24 * 24 + col % 24


def without_newlines(layout: Layout, size: Size) -> Layout:
    """No column of newlines."""
    return _detail(layout, lambda grid: replace(grid, tokens=range(576, 576 + grid.rows * grid.cols)))


def with_padding(layout: Layout, size: Size) -> Layout:
    """The canvas as it was before rows or columns of padding were left out, squeezed into the rows that are there."""

    def padded(grid: PatchGrid) -> PatchGrid:
        resize, pad, crop = grid.geometry.steps
        whole = replace(crop, op="resize", left_px=0, top_px=0)
        return replace(grid, geometry=replace(grid.geometry, steps=(resize, pad, whole)))

    return _detail(layout, padded)


def cut_at_the_start(layout: Layout, size: Size) -> Layout:
    """Padding left out at the end alone: everything is shifted by half of it."""

    def shifted(grid: PatchGrid) -> PatchGrid:
        resize, pad, crop = grid.geometry.steps
        return replace(grid, geometry=replace(grid.geometry, steps=(resize, pad, replace(crop, left_px=0, top_px=0))))

    return _detail(layout, shifted)


def _detail(layout: Layout, change: Callable[[PatchGrid], PatchGrid]) -> Layout:
    _, detail = layout.grids
    return Layout(layout.expansions, (change(detail),))


def _with(grid: PatchGrid, token: Callable[[int, int], int]) -> PatchGrid:
    most = 575 + grid.rows * (grid.cols + 1)
    places = [min(token(row, col), most) for row in range(grid.rows) for col in range(grid.cols)]
    return replace(grid, tokens=places)


MUTANTS = {one.__name__: one for one in (tile_by_tile, without_newlines, with_padding, cut_at_the_start)}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_formula_is_noticed(proof: Proof, name: str) -> None:
    right, whole = painted(
        proof, ODD_SIZES[:1], lambda size: MUTANTS[name](proof.engine.loaded.layout([size]), size), 1
    )
    assert right < 0.5 * whole
