"""BakLLaVA: LLaVA-1.5 on a Mistral, whose layers see a window of the text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import transformers as tf

from llava_doors.family import Layout
from llava_server.ask.settings import SettingsError
from llava_server.run.compiling import check_sight
from llava_wire.geometry import Geometry
from support import tiny_checkpoints as tiny
from support.family_places import ODD_SIZES, Size, check_counts, check_pixels, painted, sizes
from support.family_proofs import Proof, check_methods, check_rows
from support.pictures import scene, scene_bytes

QUESTIONS = [([scene_bytes(500, 330, seed=1)], "What?"), ([scene_bytes(260, 410, seed=2)], "And a longer question?")]
WINDOW = 128
"""4,096 as published, longer than any question here."""


def checkpoint(folder: Path) -> Path:
    """A tiny one of the published layout."""
    config = tf.LlavaConfig(
        text_config=tiny.text(tf.MistralConfig, sliding_window=WINDOW), vision_config=tiny.clip(),
        image_token_index=tiny.IMAGE_ID, vision_feature_layer=-2,
    )  # fmt: skip
    processor = tiny.clip_processor(tiny.template("USER: ", "\nASSISTANT:"))
    return tiny.write(folder, config, processor)


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    return Proof.of(checkpoint(tmp_path_factory.mktemp("tiny") / "bakllava"))


def test_rows_and_tokens_are_those_of_eager_attention(proof: Proof) -> None:
    for record in check_rows(proof, QUESTIONS, streamed=1):
        [note] = [note for note in record.facts.notes if note.code == "window"]
        assert note.text.startswith("Layers 0, 1 read only the latest tokens")


def test_counts_and_pixels_are_the_processors(proof: Proof) -> None:
    check_counts(proof, sizes(300))
    check_pixels(proof, [scene(500, 330, 1)])


def test_static_buffers_are_refused_where_the_window_is_shorter(proof: Proof) -> None:
    with pytest.raises(SettingsError, match=r"handler\.compile: got true for a model with layers \[0, 1\]"):
        check_sight(proof.engine.loaded, 600)
    check_sight(proof.engine.loaded, WINDOW)


@pytest.mark.long
def test_methods_make_their_maps(proof: Proof) -> None:
    check_methods(proof, QUESTIONS[0])


@pytest.mark.long
def test_painted_patches_are_found_where_the_layout_says(proof: Proof) -> None:
    right, whole = painted(proof, ODD_SIZES)
    assert right >= 0.98 * whole > 300


@pytest.mark.long
def test_an_ignored_crop_is_noticed(proof: Proof) -> None:
    def squeezed(size: Size) -> Layout:
        layout = proof.engine.loaded.layout([size])
        [grid] = layout.grids
        [resize, _] = grid.geometry.steps
        steps = (replace(resize, width_px=336, height_px=336),)
        return Layout(layout.expansions, (replace(grid, geometry=Geometry(*size, steps, 14, 24, 24)),))

    right, whole = painted(proof, [size for size in ODD_SIZES if size[0] != size[1]], squeezed)
    assert right < 0.5 * whole
