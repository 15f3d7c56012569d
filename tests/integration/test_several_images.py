"""Several images in one request, by a family from another package: records, replays, limits, streams, estimates."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from integration.test_own_family import items_of, own_eager
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import SettingsError
from llava_server.engine import Engine
from llava_wire import Record, RequestError, decode, encode
from support.pictures import scene_bytes

WIDE, TALL, SQUARE = (scene_bytes(*size, seed=size[0]) for size in ((300, 140), (120, 260), (97, 101)))
OPTIONS = {"max_new_tokens": 4, "rows": "both", "reduction": "none", "layers": "all", "heads": "all"}


def test_records_hold_all_grids_of_all_pictures(toy: Engine) -> None:
    requests = [
        GenerateRequest.build(image, "What?", OPTIONS | {"precision": "float32"}) for image in (WIDE, [WIDE, TALL])
    ]
    items = items_of(toy, *requests)
    for item, record in zip(items, toy.run(requests), strict=True):
        assert isinstance(record, Record)
        again = decode(encode(record))
        assert again.facts.images == record.facts.images == item.images.facts
        assert [(grid.image, grid.rows, grid.cols) for grid in again.grids] == [
            (grid.image, grid.rows, grid.cols) for grid in item.images.layout.grids
        ]
        places = [
            place for grid in again.grids for first, count in grid.positions for place in range(first, first + count)
        ]
        assert places == [*item.prompt.patches]
        rects = np.concatenate([grid.geometry.patch_rects().reshape(-1, 4) for grid in item.images.layout.grids])
        np.testing.assert_array_equal(again.patch_rects(), rects)
        answer = tuple(token.id for token in again.tokens)
        rows, _ = own_eager(toy, item, answer)
        stored = next(iter(again.views.values()))
        np.testing.assert_allclose(stored.stored[: len(answer)], rows[..., places], atol=3e-6)
    names = [grid.name for grid in again.grids]
    assert names == ["image 1, base", "image 1, detail", "image 2, base", "image 2, detail"]
    assert again.map(0, layer=1, head=2, grid="image 2, detail").shape == (6, 3)


def test_a_replay_of_two_pictures_has_the_maps_of_the_record(toy: Engine) -> None:
    views = {name: OPTIONS[name] for name in ("rows", "reduction", "layers", "heads")} | {"precision": "float32"}
    [record] = toy.run([GenerateRequest.build([WIDE, TALL], "What?", {**views, "max_new_tokens": 4})])
    assert isinstance(record, Record)
    [again, swapped] = toy.run([GenerateRequest.replay(record, views, files) for files in ([WIDE, TALL], [TALL, WIDE])])
    assert isinstance(again, Record)
    assert again.facts.images == record.facts.images
    assert again.grids == record.grids
    for name, view in record.views.items():
        np.testing.assert_allclose(again.views[name].patches_float(), view.patches_float(), atol=3e-6)
    assert isinstance(swapped, RequestError)
    [other] = toy.run([GenerateRequest.replay(record, views, [WIDE, scene_bytes(120, 260, seed=1)])])
    assert isinstance(other, RequestError)
    assert (other.field, other.status) == ("image_2", 422)
    assert "an image with other pixels" in other.message


def test_limits_hold_for_all_pictures_together(toy_checkpoint: Path) -> None:
    def refused(limits: dict[str, int], *files: bytes) -> str:
        engine = Engine.load(
            toy_checkpoint,
            device="cpu",
            dtype="float32",
            settings={"name": "toy", "limits": limits, "self_test": False},
        )
        [found] = engine.run([GenerateRequest.build(list(files), "What?", {"max_new_tokens": 1})])
        return f"{found.field}: {found.message}" if isinstance(found, RequestError) else "answered"

    pixels = 300 * 140 + 120 * 260
    assert refused({"max_image_pixels": pixels}, WIDE, TALL) == "answered"
    assert refused({"max_image_pixels": pixels - 1}, WIDE, TALL).startswith(
        f"image: got {pixels} pixels in 2 images, expected {pixels - 1} in all"
    )
    assert refused({"max_image_pixels": 120 * 260}, TALL, WIDE).startswith("image_2: got")
    size = len(WIDE) + len(TALL)
    assert refused({"max_image_bytes": size}, WIDE, TALL) == "answered"
    assert refused({"max_image_bytes": size - 1}, WIDE, TALL).startswith(f"image: got {size} bytes in 2 images")


def test_the_settings_say_how_many(toy_checkpoint: Path) -> None:
    def refused(images: int, limits: dict[str, int], **options: int) -> str:
        settings = {"name": "toy", "limits": limits, "self_test": False}
        engine = Engine.load(toy_checkpoint, device="cpu", dtype="float32", settings=settings)
        [found] = engine.run([GenerateRequest.build([SQUARE] * images, "What?", {"max_new_tokens": 1, **options})])
        return f"{found.field}: {found.message}" if isinstance(found, RequestError) else "answered"

    assert refused(3, {"max_images": 3}) == "answered"
    assert refused(4, {"max_images": 3}).startswith("image_4: got 4 images, expected 1 to 3, as toy takes")
    assert refused(2, {"max_images": 1}).startswith("image_2: got 2 images, expected one")
    # Each image takes 37 tokens; the context has 1024.
    assert re.search(
        r"^image: got \d+ prompt tokens \(592 of 16 images\) and max_new_tokens 600, expected 1024 together; send",
        refused(16, {"max_new_tokens": 600}, max_new_tokens=600),
    )
    with pytest.raises(SettingsError, match=r"handler\.limits\.max_images: got 17, expected 1 to 16"):
        refused(1, {"max_images": 17})


def test_a_stream_ends_with_the_record_that_a_run_gives(toy: Engine) -> None:
    request = GenerateRequest.build([WIDE, TALL], "What?", {"max_new_tokens": 3})
    *tokens, last = toy.stream(request)
    [whole] = toy.run([request])
    assert isinstance(last, Record)
    assert encode(last.without_run()) == encode(whole.without_run())
    for i, token in enumerate(tokens):
        np.testing.assert_array_equal(token.views["mean"].stored, whole.views["mean"].stored[i])


def test_a_family_of_one_picture_refuses_two_by_name(engine: Engine) -> None:
    [refused] = engine.run([GenerateRequest.build([WIDE, TALL], "What?", {})])
    assert isinstance(refused, RequestError)
    assert (refused.field, refused.status) == ("image_2", 422)
    assert "got 2 images, expected one, as llava-shapes takes" in refused.message


def test_a_broken_second_picture_is_named(toy: Engine) -> None:
    [refused] = toy.run([GenerateRequest.build([WIDE, b"no image"], "What?", {})])
    assert isinstance(refused, RequestError)
    assert (refused.field, refused.status) == ("image_2", 415)


def test_estimates_follow_the_sizes(toy: Engine) -> None:
    sizes = [toy.estimate(GenerateRequest.build(image, "What?", OPTIONS)) for image in (SQUARE, WIDE, [WIDE, TALL])]
    assert sizes[0].maps_bytes < sizes[1].maps_bytes
    rows, maps = 4 + 2, 3 * 4  # "What?" is two tokens
    # Beside its patches a row has four shares and what lies on separators.
    assert sizes[1].maps_bytes == rows * maps * (16 + 18 + 5) * 4
    assert sizes[2].maps_bytes == rows * maps * (2 * (16 + 18) + 5) * 4
    assert sizes[2].cache_bytes > 1.4 * sizes[1].cache_bytes


def test_static_buffers_are_refused(toy: Engine) -> None:
    from llava_server.run.static import StaticDecoder

    with pytest.raises(SettingsError, match=r"handler\.compile: got true for a model whose images take"):
        StaticDecoder(toy.loaded, (1,), (64,), compiled=False)
