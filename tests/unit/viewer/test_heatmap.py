"""Maps as pictures: what a PNG shows is what the record holds."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as PillowImage

from llava_viewer.look import heatmap
from llava_wire.geometry import Preprocess


def read(data: bytes) -> PillowImage.Image:
    picture = PillowImage.open(io.BytesIO(data))
    picture.load()
    return picture


def test_grey_is_the_square_root_of_the_map_over_its_maximum() -> None:
    maps = np.array([[[0.0, 0.01], [0.02, 0.04]], [[0.5, 0.0], [0.0, 0.25]]], np.float32)
    grey, peaks = heatmap.to_grey(maps)
    assert grey[0].tolist() == [[0, 127], [180, 255]]
    assert np.allclose(peaks[:, None, None] * (grey / 255) ** 2, maps, atol=1e-3)
    assert peaks == pytest.approx([0.04, 0.5])


def test_an_empty_map_stays_black() -> None:
    grey, peaks = heatmap.to_grey(np.zeros((1, 3, 3), np.float32))
    assert not grey.any()
    assert peaks.tolist() == [0.0]


@pytest.mark.parametrize("shape", [(1, 1), (24, 24), (3, 5), (7, 2)])
def test_a_grey_png_holds_the_pixels(shape: tuple[int, int]) -> None:
    grey = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    picture = read(heatmap.grey_png(grey))
    assert picture.mode == "L"
    assert np.array_equal(np.asarray(picture), grey)


def test_an_overlay_lies_on_the_patch_of_the_original_picture() -> None:
    geometry = Preprocess(patch_px=8, shortest_edge=32, crop=(32, 32)).plan(96, 64)
    heat = np.zeros((4, 4), np.float32)
    heat[1, 2] = 0.3
    picture = PillowImage.new("RGB", (96, 64), (100, 100, 100))
    shown = np.asarray(heatmap.overlay(picture, heat, geometry, "cividis", 1.0)).astype(int)
    x0, y0, x1, y1 = geometry.patch_rects()[1, 2]
    inside = np.zeros((64, 96), bool)
    inside[round(y0) : round(y1), round(x0) : round(x1)] = True
    brightest = (shown == np.array([254, 232, 56])).all(axis=-1)
    assert np.array_equal(brightest, inside)
    assert (shown[:, :15] == 100).all(), "what the model did not see is left alone"


def test_a_soft_overlay_darkens_what_was_not_seen() -> None:
    geometry = Preprocess(patch_px=8, shortest_edge=32, crop=(32, 32)).plan(96, 64)
    picture = PillowImage.new("RGB", (96, 64), (240, 240, 240))
    shown = np.asarray(heatmap.overlay(picture, np.ones((4, 4), np.float32), geometry, "cividis", None))
    assert shown[32, 4].max() < 200
