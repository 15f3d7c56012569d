"""Qwen2.5-VL: a grid of the image's own shape, windows in the tower alone, positions of three axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

from llava_doors.families.qwen2_5_vl import Qwen25Vl
from llava_doors.family import FamilyError, Layout
from llava_server.ask.settings import SettingsError
from llava_server.check.selftest import self_test
from llava_server.run.static import StaticDecoder
from llava_wire.errors import RequestError
from support import tiny_checkpoints as tiny
from support.family_places import ODD_SIZES, Size, check_counts, check_pixels, painted, sizes
from support.family_proofs import Proof, check_methods, check_passes, check_rows
from support.pictures import scene, scene_bytes

FLAT, TALL, WIDE = scene_bytes(400, 90, seed=1), scene_bytes(150, 410, seed=3), scene_bytes(300, 230, seed=2)
QUESTIONS = [([FLAT], "What?"), ([TALL], "And a longer question?")]
SPECIAL = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_start|>", "<|im_end|>")
PAD = tiny.IMAGE_ID + 1
BOUNDS = {"shortest_edge": 3136, "longest_edge": 12845056}
"""As published: px of the resized image."""


def processor(**change: Any) -> Any:
    """Transformers' own, for pictures."""
    chat = tiny.template("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")
    return tiny.pictures_only(
        tf.Qwen2_5_VLProcessor,
        tf.Qwen2VLImageProcessorPil(**{"size": BOUNDS, "patch_size": 14, "merge_size": 2, **change}),
        tiny.tokenizer(*SPECIAL, bos=False),
        chat_template=chat.replace("<image>\n", "<|vision_start|><|image_pad|><|vision_end|>"),
    )


def config() -> Any:
    """The configuration of a tiny one."""
    text = tiny.text(dict, bos_token_id=None, rope_parameters=rope())
    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": tiny.WIDTH,
        "patch_size": 14, "spatial_merge_size": 2, "window_size": 112, "fullatt_block_indexes": [1],
    }  # fmt: skip
    ids = dict(zip(("image", "video", "vision_start", "vision_end"), range(PAD, PAD + 4), strict=True))
    named = {f"{name}_token_id": i for name, i in ids.items()}
    return tf.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **named)


def rope() -> dict[str, Any]:
    """Sections of a head of 16 values."""
    return {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6}


def hub_key(key: str) -> str:
    """A parameter's name as the published shards spell it."""
    return key.replace("model.visual.", "visual.").replace("model.language_model.", "model.")


def checkpoint(folder: Path) -> Path:
    """A tiny one of the published layout."""
    return tiny.write(folder, config(), processor(), hub_key)


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    return Proof.of(checkpoint(tmp_path_factory.mktemp("tiny") / "qwen"), processor=processor())


def test_rows_and_tokens_are_those_of_eager_attention(proof: Proof) -> None:
    one, two = check_rows(proof, QUESTIONS)
    assert [(grid.name, grid.rows, grid.cols) for grid in one.grids] == [("base", 3, 14)]
    assert [(grid.name, grid.rows, grid.cols) for grid in two.grids] == [("base", 15, 5)]


def test_two_pictures_in_one_prompt(proof: Proof) -> None:
    _, two = check_rows(proof, [([WIDE], "What?"), ([TALL, FLAT], "What differs?")], streamed=1)
    assert [(grid.name, grid.rows, grid.cols) for grid in two.grids] == [
        ("image 1, base", 15, 5), ("image 2, base", 3, 14)
    ]  # fmt: skip


def test_positions_are_the_models(proof: Proof) -> None:
    loaded = proof.engine.loaded
    pictures = [scene(300, 230, 1), scene(60, 410, 2)]
    made = proof.processor(
        text=["a<|image_pad|>bcd<|image_pad|>e"], images=[pictures], return_tensors="pt", padding=True
    )
    names = ("input_ids", "mm_token_type_ids", "image_grid_thw")
    theirs, _ = proof.eager.model.get_rope_index(**{name: made[name] for name in names})
    ours = loaded.family.positions(made["input_ids"][0].tolist(), loaded.family.inputs(loaded.processor, pictures))
    assert torch.equal(ours, theirs[:, 0])


def test_one_axis_of_positions_is_noticed(proof: Proof, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places of tokens, as models of one axis have them, in place of time, height and width."""
    monkeypatch.setattr(Qwen25Vl, "positions", lambda self, ids, inputs: torch.arange(len(ids)).expand(3, -1))
    with pytest.raises(SettingsError, match="self-test: got "):
        self_test(proof.engine.loaded)


def test_counts_are_the_processors(proof: Proof) -> None:
    check_counts(proof, [*sizes(300), (1, 1), (28, 28), (4100, 21), (21, 4100), (9000, 8000)])


def test_pixels_are_the_processors(proof: Proof) -> None:
    check_pixels(proof, [scene(500, 330, 1), scene(100, 610, 2)])


def test_a_needle_is_refused(proof: Proof) -> None:
    with pytest.raises(RequestError, match=r"got 4100 x 20 px, expected shapes up to 200:1; crop it"):
        proof.engine.loaded.layout([(4100, 20)])


def test_a_processor_of_another_model_is_refused(proof: Proof) -> None:
    with pytest.raises(FamilyError, match=r"image processor: got .*'merge_size': 1.*expected .*'merge_size': 2"):
        proof.engine.loaded.family.check_processor(processor(merge_size=1))


def test_compile_is_refused_by_name(proof: Proof) -> None:
    with pytest.raises(SettingsError, match=r"handler\.compile: got true for a model"):
        StaticDecoder(proof.engine.loaded, (1,), (64,), compiled=False)


@pytest.mark.long
def test_methods_make_their_maps(proof: Proof) -> None:
    check_methods(proof, QUESTIONS[1])


@pytest.mark.long
def test_checks_and_scorer_hide_patches(proof: Proof) -> None:
    check_passes(proof, QUESTIONS[1])


def test_painted_patches_are_found_where_the_layout_says(proof: Proof) -> None:
    right, whole = painted(proof, [(333, 257)], rounds=1)
    assert right >= 0.98 * whole > 3


@pytest.mark.long
def test_painted_patches_are_found_on_all_sizes(proof: Proof) -> None:
    right, whole = painted(proof, ODD_SIZES)
    print(f"painted {right} of {whole}")
    assert right >= 0.98 * whole > 600


def in_windows(layout: Layout) -> Layout:
    """Tokens in the order of the tower's windows, as they are before the model puts them back."""
    [grid] = layout.grids
    places = [(row, col) for row in range(grid.rows) for col in range(grid.cols)]
    windowed = sorted(places, key=lambda place: (place[0] // 4, place[1] // 4, *place))
    order = {place: token for token, place in enumerate(windowed)}
    return Layout(layout.expansions, (replace(grid, tokens=[order[place] for place in places]),))


def by_columns(layout: Layout) -> Layout:
    """Tokens column by column."""
    [grid] = layout.grids
    tokens = [col * grid.rows + row for row in range(grid.rows) for col in range(grid.cols)]
    return Layout(layout.expansions, (replace(grid, tokens=tokens),))


@pytest.mark.parametrize("wrong", [in_windows, by_columns])
def test_a_wrong_formula_is_noticed(proof: Proof, wrong: Callable[[Layout], Layout]) -> None:
    def layout_of(size: Size) -> Layout:
        return wrong(proof.engine.loaded.layout([size]))

    right, whole = painted(proof, [(1000, 700)], layout_of, 1)
    print(f"{wrong.__name__}: {right} of {whole}")
    assert right < 0.5 * whole
