"""LLaVA-Interleave: a SigLIP tower, all of its tokens kept, several pictures in a prompt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import transformers as tf

from llava_doors.family import Layout, PatchGrid
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import SettingsError
from llava_server.check.selftest import self_test
from llava_server.engine import Engine
from llava_server.run.static import Bucket, StaticDecoder
from llava_wire.geometry import Geometry
from llava_wire.grids import Step
from support import tiny_checkpoints as tiny
from support.family_places import ODD_SIZES, Size, check_counts, check_pixels, counted, painted, sizes
from support.family_proofs import Proof, check_methods, check_rows, check_static, expected, records
from support.pictures import scene, scene_bytes

WIDE, TALL = scene_bytes(500, 330, seed=1), scene_bytes(260, 410, seed=2)


def checkpoint(folder: Path) -> Path:
    """A tiny one of the published layout."""
    config = tf.LlavaConfig(
        text_config=tiny.text(tf.Qwen2Config, bos_token_id=None), vision_config=tiny.siglip(layers=1),
        image_token_index=tiny.IMAGE_ID, vision_feature_layer=-1, vision_feature_select_strategy="full",
    )  # fmt: skip
    half = [0.5, 0.5, 0.5]
    processor = tf.LlavaProcessor(
        tf.SiglipImageProcessorPil(size={"height": 384, "width": 384}, image_mean=half, image_std=half),
        tiny.tokenizer("<|im_start|>", "<|im_end|>", bos=False),
        patch_size=14,
        vision_feature_select_strategy="full",
        chat_template=tiny.template("<|im_start|>user ", "<|im_end|><|im_start|>assistant"),
    )
    return tiny.write(folder, config, processor)


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    return Proof.of(checkpoint(tmp_path_factory.mktemp("tiny") / "interleave"))


def test_rows_and_tokens_are_those_of_eager_attention(proof: Proof) -> None:
    questions = [([WIDE], "What?"), ([TALL, WIDE], "What differs between them?")]
    one, two = check_rows(proof, questions)
    assert [grid.name for grid in one.grids] == ["base"]
    assert [grid.name for grid in two.grids] == ["image 1, base", "image 2, base"]
    assert {(grid.rows, grid.cols) for grid in two.grids} == {(27, 27)}


@pytest.mark.parametrize("least", [0, 6], ids=["none-held-back", "held-back"])
def test_an_end_of_sequence_within_a_batch_is_eagers(proof: Proof, least: int) -> None:
    """One answer of a batch comes to the id that ends it, before the least number of tokens or where there is none."""
    questions, steps = [([WIDE], "What?"), ([TALL], "And a longer question?")], 6
    one, two = (expected(proof, asked, steps).answer for asked in questions)
    place = next(i for i in range(1, steps - 1) if two[i] not in [*one, *two[:i]])
    end = two[place]
    ends = {"eos_token_id": end, **({"min_new_tokens": least} if least else {})}
    eager = [expected(proof, asked, steps, **ends).answer for asked in questions]
    assert [len(answer) for answer in eager] == [steps, steps if least else place + 1]
    assert (end in eager[1]) is not bool(least)
    choosing = tf.GenerationConfig(min_new_tokens=least) if least else None
    loaded = replace(proof.engine.loaded, eos_ids=(end,), choosing=choosing)
    requests = [GenerateRequest.build([*p], q, {"max_new_tokens": steps}) for p, q in questions]
    ours = records(Engine(loaded, proof.engine.settings).run(requests))
    assert {record.run["batch_size"] for record in ours} == {2}
    assert [[token.id for token in record.tokens] for record in ours] == eager


def test_counts_and_pixels_are_the_processors(proof: Proof) -> None:
    some = sizes(6)
    check_counts(proof, some, [counted(proof, size) for size in some])
    check_pixels(proof, [scene(500, 330, 1), scene(260, 410, 2)])


@pytest.mark.long
def test_static_buffers_give_the_same(proof: Proof) -> None:
    check_static(proof, [([WIDE], "What?"), ([TALL], "And a longer question?")])


@pytest.mark.long
def test_static_buffers_are_tested_with_one_picture(proof: Proof, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket for one picture holds no prompt of two, which the self-test has beside it."""
    static = StaticDecoder(proof.engine.loaded, (1,), (64,), compiled=False)
    assert self_test(proof.engine.loaded, static)["result"] == "passed"
    right = Bucket.fill

    def behind(self: Bucket, *given: Any) -> None:
        right(self, *given)
        self.positions.sub_(1)

    monkeypatch.setattr(Bucket, "fill", behind)
    with pytest.raises(SettingsError, match=r"self-test: got .* from decoding without compile"):
        self_test(proof.engine.loaded, static)


@pytest.mark.long
def test_counts_of_300_sizes(proof: Proof) -> None:
    some = sizes(300, most=1500)
    check_counts(proof, some, [counted(proof, size) for size in some])


@pytest.mark.long
def test_methods_make_their_maps(proof: Proof) -> None:
    check_methods(proof, ([TALL, WIDE], "What differs?"))


@pytest.mark.long
def test_painted_patches_are_found_where_the_layout_says(proof: Proof) -> None:
    right, whole = painted(proof, ODD_SIZES)
    assert right >= 0.98 * whole > 300


@pytest.mark.long
def test_a_forgotten_remainder_is_noticed(proof: Proof) -> None:
    """The last 6 px of 384 lie in no patch; patches that cover the whole picture are elsewhere."""

    def whole_picture(size: Size) -> Layout:
        layout = proof.engine.loaded.layout([size])
        [grid] = layout.grids
        geometry = Geometry(*size, (Step("resize", 378, 378),), 14, 27, 27)
        return Layout(layout.expansions, (replace(grid, geometry=geometry),))

    def turned(size: Size) -> Layout:
        layout = proof.engine.loaded.layout([size])
        [grid] = layout.grids
        tokens = [col * 27 + row for row in range(27) for col in range(27)]
        return Layout(layout.expansions, (PatchGrid(0, grid.name, grid.geometry, tokens),))

    right, whole = painted(proof, ODD_SIZES, whole_picture)
    assert right < 0.95 * whole
    right, whole = painted(proof, ODD_SIZES[:2], turned)
    assert right < 0.3 * whole
