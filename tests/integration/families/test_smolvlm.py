"""SmolVLM 2: tiles of an image and the whole of it, words between them, on the published geometries of two sizes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import transformers as tf

from llava_doors.families.idefics3 import Idefics3
from llava_doors.family import FamilyError, Layout, PatchGrid
from llava_server.ask.settings import SettingsError
from llava_server.run.static import StaticDecoder
from llava_wire.geometry import Geometry
from llava_wire.grids import Step
from support import tiny_checkpoints as tiny
from support.family_places import ODD_SIZES, Size, check_counts, check_pixels, counted, painted, sizes
from support.family_proofs import Proof, check_methods, check_passes, check_rows
from support.pictures import scene, scene_bytes

FLAT, TALL, WIDE = scene_bytes(400, 90, seed=1), scene_bytes(150, 410, seed=3), scene_bytes(300, 230, seed=2)
QUESTIONS = [([FLAT], "What?"), ([TALL], "And a longer question?")]
WORDS = (
    *("<fake_token_around_image>", "<end_of_utterance>", "<global-img>"),
    *(f"<row_{row}_col_{col}>" for row in range(1, 5) for col in range(1, 5)),
)
SMALL, LARGE = (2048, 512, 16, 4), (1536, 384, 14, 3)
"""Longest edge, tile, patch and patches along a side of a token: of 256M and 500M, and of 2.2B, whose tiles end in 6 px
that no patch reads.
"""


def chat_template() -> str:
    """As published: a line break only after a turn."""
    return tiny.template("User:", "<end_of_utterance>\nAssistant:").replace("<image>\n", "<image>")


def processor(kind: tuple[int, int, int, int] = SMALL, **change: Any) -> Any:
    """Transformers' own, whose module asks for a package that writes out numbers of a video's frames."""
    house, (longest, tile, patch, scale) = "transformers.models.smolvlm", kind
    theirs = importlib.import_module(f"{house}.processing_smolvlm")
    half = [0.5, 0.5, 0.5]
    pictures = {
        "size": {"longest_edge": longest}, "max_image_size": {"longest_edge": tile}, "image_mean": half,
        "image_std": half, **change,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(theirs, "num2words", str)
        made = tiny.pictures_only(
            theirs.SmolVLMProcessor, tf.SmolVLMImageProcessorPil(**pictures), tiny.tokenizer(*WORDS, bos=False),
            video_processor=None, image_seq_len=(tile // patch // scale) ** 2,
            chat_template=chat_template(),
        )  # fmt: skip
    made.video_processor = SimpleNamespace(num_frames=1, fps=1)  # its templates ask, for images too
    return made


def config(kind: tuple[int, int, int, int] = SMALL) -> Any:
    """The configuration of a tiny one."""
    _, tile, patch, scale = kind
    tower = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": tile, "patch_size": patch,
    }  # fmt: skip
    return tf.SmolVLMConfig(
        text_config=tiny.text(tf.LlamaConfig, bos_token_id=None), vision_config=tower, scale_factor=scale,
        image_token_id=tiny.IMAGE_ID,
    )  # fmt: skip


def checkpoint(folder: Path, kind: tuple[int, int, int, int] = SMALL) -> Path:
    """A tiny one of the published layout, whose shards spell names as transformers does."""
    return tiny.write(folder, config(kind), processor(kind), str)


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    return Proof.of(checkpoint(tmp_path_factory.mktemp("tiny") / "smolvlm"), processor=processor())


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    return Proof.of(checkpoint(tmp_path_factory.mktemp("tiny") / "large", LARGE), processor=processor(LARGE))


def test_rows_and_tokens_are_those_of_eager_attention(proof: Proof) -> None:
    assert isinstance(proof.engine.loaded.family, Idefics3)
    one, two = check_rows(proof, QUESTIONS)
    assert [(grid.name, grid.rows, grid.cols) for grid in one.grids] == [("detail", 8, 32), ("base", 8, 8)]
    assert [(grid.name, grid.rows, grid.cols) for grid in two.grids] == [("detail", 32, 16), ("base", 8, 8)]
    assert [note.code for note in one.facts.notes] == ["tile-words"]


@pytest.mark.long
def test_two_pictures_in_one_prompt(large: Proof) -> None:
    _, two = check_rows(large, [([FLAT], "What?"), ([TALL, FLAT], "What differs?")], streamed=1)
    assert [(grid.name, grid.rows) for grid in two.grids] == [
        ("image 1, detail", 36), ("image 1, base", 9), ("image 2, detail", 9), ("image 2, base", 9)
    ]  # fmt: skip
    assert [note.code for note in two.facts.notes] == ["tile-words", "tile-ends"]


def test_counts_and_pixels_are_the_processors(proof: Proof) -> None:
    check_some_counts(proof, sizes(4))
    check_pixels(proof, [scene(500, 330, 1), scene(100, 610, 2)])


def check_some_counts(proof: Proof, some: list[Size]) -> None:
    """Features are as many as the image tokens that the processor writes, words among them as many as it counts."""
    images, seq = proof.processor.image_processor, proof.processor.image_seq_len
    counts = []
    for width, height in some:
        pieces, rows, _ = images.get_number_of_image_patches(height, width)
        pieces = max(pieces, 1)
        # Two words before a tile, one after all, a line break after a row and one more, each an id here.
        counts.append(pieces * (seq + 2) + 1 + (rows + 1 if rows else 0))
        [expansion] = proof.engine.loaded.layout([(width, height)]).expansions
        assert expansion.count(tiny.IMAGE_ID) == pieces * seq
    check_counts(proof, some, counts)


@pytest.mark.long
def test_counts_of_300_sizes(proof: Proof, large: Proof) -> None:
    for one in (proof, large):
        check_some_counts(one, [*sizes(300), (5000, 20), (20, 5000), (1, 1), (512, 512)])
        for size in [(5000, 20), (333, 257), (700, 690)]:
            [expansion] = one.engine.loaded.layout([size]).expansions
            assert counted(one, size) == expansion.count(tiny.IMAGE_ID)


def test_an_image_that_is_not_split_is_one_grid(proof: Proof) -> None:
    loaded = proof.engine.loaded
    whole = SimpleNamespace(tokenizer=loaded.processor.tokenizer, image_processor=processor(
        do_image_splitting=False).image_processor)  # fmt: skip
    layout = loaded.family.layout(whole, [(500, 330)])
    assert [(grid.name, grid.rows, grid.cols) for grid in layout.grids] == [("base", 8, 8)]
    assert layout.tokens == 64 + 3
    assert loaded.family.inputs(whole, [scene(500, 330, 1)])["pixel_values"].shape[:2] == (1, 1)


def test_a_layout_without_a_tokenizer_counts_the_same(proof: Proof) -> None:
    loaded = proof.engine.loaded
    without = SimpleNamespace(tokenizer=None, image_processor=loaded.processor.image_processor)
    for size in ODD_SIZES:
        assert loaded.family.layout(without, [size]).tokens == loaded.layout([size]).tokens


def test_a_processor_of_another_model_is_refused(proof: Proof) -> None:
    family = proof.engine.loaded.family
    with pytest.raises(FamilyError, match=r"image processor: got .*max_image_size 384 .*expected px, 512"):
        family.check_processor(processor(LARGE))
    bare = SimpleNamespace(image_processor=processor().image_processor, tokenizer=tiny.tokenizer())
    with pytest.raises(FamilyError, match=r"tokenizer: got no <fake_token_around_image>, expected it"):
        family.check_processor(bare)


def test_patches_that_cannot_be_merged_are_refused() -> None:
    with pytest.raises(FamilyError, match=r"config: got image_size 512, patch_size 16 and scale_factor 5, expected px"):
        Idefics3().check(config((2048, 512, 16, 5)))


def test_compile_is_refused_by_name(proof: Proof) -> None:
    with pytest.raises(SettingsError, match=r"handler\.compile: got true for a model whose images take"):
        StaticDecoder(proof.engine.loaded, (1,), (64,), compiled=False)


@pytest.mark.long
def test_methods_make_their_maps(proof: Proof) -> None:
    check_methods(proof, QUESTIONS[0])


@pytest.mark.long
def test_checks_and_scorer_hide_patches(proof: Proof) -> None:
    check_passes(proof, QUESTIONS[0])


def test_painted_patches_are_found_where_the_layout_says(large: Proof) -> None:
    right, whole = painted(large, [(333, 257)], rounds=1)
    assert right >= 0.98 * whole > 30


@pytest.mark.long
@pytest.mark.parametrize("kind", ["proof", "large"])
def test_painted_patches_are_found_on_all_sizes(kind: str, request: pytest.FixtureRequest) -> None:
    right, whole = painted(request.getfixturevalue(kind), ODD_SIZES)
    print(f"{kind} painted {right} of {whole}")
    assert right >= 0.98 * whole > 500


def tile_columns(grid: PatchGrid, per: int) -> PatchGrid:
    """Tiles down the columns of the image."""
    starts = [grid.tokens[row * per * grid.cols + col * per] for row in range(grid.rows // per)
              for col in range(grid.cols // per)]  # fmt: skip
    down = grid.rows // per
    places = [(row, col) for row in range(grid.rows) for col in range(grid.cols)]
    tokens = [starts[col // per * down + row // per] + row % per * per + col % per for row, col in places]
    return replace(grid, tokens=tokens)


def row_by_row(grid: PatchGrid, per: int) -> PatchGrid:
    """Rows of the whole grid in place of tiles, of the same tokens."""
    return replace(grid, tokens=sorted(grid.tokens))


def fitted(grid: PatchGrid, per: int) -> PatchGrid:
    """Tiles as if the image had kept its shape, padded at its ends."""
    first, second, *rest = grid.geometry.steps
    steps = (first, replace(second, op="pad"), *rest)
    return replace(grid, geometry=replace(grid.geometry, steps=steps))


def without_ends(grid: PatchGrid, per: int) -> PatchGrid:
    """No remainder of tiles."""
    first, _, trim = grid.geometry.steps
    size, side = (grid.geometry.width_px, grid.geometry.height_px), grid.geometry.patch_px
    steps = (first, Step("resize", trim.width_px, trim.height_px))
    return replace(grid, geometry=Geometry(*size, steps, side, grid.rows, grid.cols))


WRONG = {"tile_columns": (tile_columns, 0.5), "row_by_row": (row_by_row, 0.5), "fitted": (fitted, 0.7)}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_formula_is_noticed(large: Proof, name: str) -> None:
    wrong, most = WRONG[name]
    right, whole = painted(large, [(1000, 700)], changed(large, wrong), 1)
    print(f"{name}: {right} of {whole}")
    assert right < most * whole


def test_forgotten_ends_of_tiles_are_noticed(large: Proof) -> None:
    """Painted near the edges of patches, as the ends are a part of one."""
    edges = ((0.02, 0.14), (0.86, 0.98))
    right, whole = painted(large, [(1536, 1536)], None, 1, edges)
    assert right >= 0.98 * whole
    wrong, whole = painted(large, [(1536, 1536)], changed(large, without_ends), 1, edges)
    print(f"ends: {wrong} of {whole}, {right} with them")
    assert wrong < 0.9 * whole


def changed(proof: Proof, wrong: Callable[[PatchGrid, int], PatchGrid]) -> Callable[[Size], Layout]:
    """The family's layout, its detail grid alone, changed."""

    def layout_of(size: Size) -> Layout:
        layout = proof.engine.loaded.layout([size])
        detail, base = layout.grids
        return Layout(layout.expansions, (wrong(detail, base.cols),))

    return layout_of
