"""Patch rectangles of sizes that can be worked out by hand."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llava_wire.geometry import Geometry, Preprocess
from llava_wire.grids import Grid, Step, runs_of
from llava_wire.plain import from_plain, to_plain
from llava_wire.schema import Image

SIZES = st.integers(1, 900)


def test_a_centre_crop_of_a_landscape() -> None:
    geometry = Preprocess(patch_px=12, shortest_edge=96, crop=(96, 96)).plan(256, 192)
    rects = geometry.patch_rects()
    assert rects.shape == (8, 8, 4)
    np.testing.assert_array_equal(rects[0, 0], [32, 0, 56, 24])
    np.testing.assert_array_equal(rects[7, 7], [200, 168, 224, 192])
    assert geometry.seen_rect() == (32, 0, 224, 192)


def test_padding_to_a_square_reaches_outside_the_picture() -> None:
    geometry = Preprocess(patch_px=10, pad_to_square=True, exact_size=(100, 100)).plan(200, 100)
    np.testing.assert_array_equal(geometry.patch_rects()[0, 0], [0, -50, 20, -30])
    assert geometry.seen_rect() == (0, 0, 200, 100)


def test_the_longer_side_is_truncated() -> None:
    geometry = Preprocess(patch_px=14, shortest_edge=336, crop=(336, 336)).plan(640, 427)
    assert [(s.width_px, s.height_px) for s in geometry.steps] == [(503, 336), (336, 336)]
    assert geometry.steps[1].left_px == 83


def test_what_tiles_lose_lies_between_patches() -> None:
    """Two tiles of 40 px of which patches of 12 px read 36; the first patch is cut away after that."""
    steps = (Step("resize", 80, 40), Step("trim", 72, 36, 4, 4), Step("crop", 60, 36, 12, 0))
    rects = Geometry(160, 40, steps, 12, 3, 5).patch_rects()
    np.testing.assert_array_equal(rects[0, :, 0], [24, 48, 80, 104, 128])
    np.testing.assert_array_equal(rects[0, :, 2], [48, 72, 104, 128, 152])
    np.testing.assert_array_equal(rects[:, 0, 1::2], [[0, 12], [12, 24], [24, 36]])
    assert Geometry(160, 40, steps, 12, 3, 5).seen_rect() == (24, 0, 152, 36)


def test_a_patch_over_two_trimmed_tiles_holds_what_lies_between_them() -> None:
    steps = (Step("trim", 72, 40, 4, 0), Step("resize", 60, 40))
    rects = Geometry(80, 40, steps, 20, 2, 3).patch_rects()
    np.testing.assert_array_equal(rects[0, :, 0::2], [[0, 24], [24, 52], [52, 76]])


@settings(max_examples=150, deadline=None)
@given(
    width=SIZES,
    height=SIZES,
    mode=st.sampled_from(["crop", "pad", "exact"]),
    grid=st.integers(1, 8),
    patch=st.integers(1, 16),
)
def test_rectangles_tile_the_seen_part(width: int, height: int, mode: str, grid: int, patch: int) -> None:
    side = grid * patch
    preprocess = {
        "crop": Preprocess(patch, shortest_edge=side, crop=(side, side)),
        "pad": Preprocess(patch, pad_to_square=True, shortest_edge=side, crop=(side, side)),
        "exact": Preprocess(patch, exact_size=(side, side)),
    }[mode]
    geometry = preprocess.plan(width, height)
    rects = geometry.patch_rects()
    assert rects.shape == (grid, grid, 4)
    np.testing.assert_array_equal(rects[:, 1:, 0], rects[:, :-1, 2])
    np.testing.assert_array_equal(rects[1:, :, 1], rects[:-1, :, 3])
    assert (rects[..., 2] > rects[..., 0]).all()
    assert (rects[..., 3] > rects[..., 1]).all()
    x0, y0, x1, y1 = geometry.seen_rect()
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height
    if mode == "pad":
        assert (x1 - x0, y1 - y0) == (width, height)
    image, made = Image(width, height, "", ""), geometry.grid(((0, grid * grid),))
    assert Geometry.of(image, from_plain(Grid, json.loads(json.dumps(to_plain(made))))) == geometry


@pytest.mark.parametrize("positions", [[5], [5, 6, 7], [5, 6, 9, 10, 2], range(4, 9), [7, 6, 5], [1, 3, 5]])
def test_runs_hold_the_same_positions_in_their_order_and_none_goes_on_where_another_ends(positions) -> None:
    runs = runs_of(positions)
    assert [first + i for first, count in runs for i in range(count)] == list(positions)
    assert all(first + count != following for (first, count), (following, _) in itertools.pairwise(runs))
