"""Idefics 3: as SmolVLM, on smaller tiles of more tokens."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import transformers as tf

from integration.families.test_smolvlm import chat_template
from llava_doors.families.idefics3 import Idefics3
from support import tiny_checkpoints as tiny
from support.family_places import ODD_SIZES, check_counts, check_pixels, painted, sizes
from support.family_proofs import Proof, check_methods, check_rows
from support.pictures import scene, scene_bytes

FLAT, SMALL = scene_bytes(700, 90, seed=1), scene_bytes(410, 100, seed=3)
WORDS = (
    *("<fake_token_around_image>", "<end_of_utterance>", "<global-img>"),
    *(f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7)),
)


def processor() -> Any:
    """Transformers' own."""
    half = [0.5, 0.5, 0.5]
    kind = importlib.import_module("transformers.models.idefics3.processing_idefics3").Idefics3Processor
    pictures = tf.Idefics3ImageProcessorPil(
        size={"longest_edge": 1456}, max_image_size={"longest_edge": 364}, image_mean=half, image_std=half
    )
    return tiny.pictures_only(kind, pictures, tiny.tokenizer(*WORDS), image_seq_len=169, chat_template=chat_template())


def checkpoint(folder: Path) -> Path:
    """A tiny one of the published layout, whose shards spell names as transformers does."""
    tower = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 364, "patch_size": 14,
    }  # fmt: skip
    config = tf.Idefics3Config(
        text_config=tiny.text(tf.LlamaConfig), vision_config=tower, scale_factor=2, image_token_id=tiny.IMAGE_ID
    )
    return tiny.write(folder, config, processor(), str)


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    return Proof.of(checkpoint(tmp_path_factory.mktemp("tiny") / "idefics3"), processor=processor())


@pytest.mark.long
def test_rows_and_tokens_are_those_of_eager_attention(proof: Proof) -> None:
    assert isinstance(proof.engine.loaded.family, Idefics3)
    one, two = check_rows(proof, [([FLAT], "What?"), ([SMALL, FLAT], "What differs?")], streamed=1)
    assert [(grid.name, grid.rows, grid.cols) for grid in one.grids] == [("detail", 13, 52), ("base", 13, 13)]
    assert [grid.name for grid in two.grids] == ["image 1, detail", "image 1, base", "image 2, detail", "image 2, base"]
    assert [note.code for note in one.facts.notes] == ["tile-words"]


def test_counts_and_pixels_are_the_processors(proof: Proof) -> None:
    check_counts(proof, [*sizes(300), (5000, 20), (20, 5000), (1, 1), (364, 364)])
    check_pixels(proof, [scene(500, 330, 1), scene(100, 610, 2)])


@pytest.mark.long
def test_methods_make_their_maps(proof: Proof) -> None:
    check_methods(proof, ([FLAT], "What?"))


@pytest.mark.long
def test_painted_patches_are_found_on_all_sizes(proof: Proof) -> None:
    right, whole = painted(proof, ODD_SIZES)
    print(f"painted {right} of {whole}")
    assert right >= 0.98 * whole > 600
