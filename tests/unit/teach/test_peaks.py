"""Peaks: rectangles tile what the model sees, and a peak counts by its patch's centre."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from llava_eval.truth import as_truth, centres_inside
from teach.peaks import centre_crop_rectangles, peaks_inside, whole_rectangles


@pytest.mark.parametrize("size", [(192, 192), (256, 192), (192, 224), (333, 200)])
def test_rectangles_tile_the_central_square(size):
    rectangles = centre_crop_rectangles(*size, 8)
    side = min(size)
    assert rectangles.shape == (8, 8, 4)
    assert rectangles.dtype == np.float64
    left, top = (size[0] - side) / 2, (size[1] - side) / 2
    assert rectangles[0, 0, :2].tolist() == [left, top]
    assert rectangles[-1, -1, 2:].tolist() == [left + side, top + side]
    assert np.allclose(rectangles[:, 1:, 0], rectangles[:, :-1, 2])
    assert np.allclose(rectangles[1:, :, 1], rectangles[:-1, :, 3])


def test_rows_run_down_and_columns_run_right():
    rectangles = centre_crop_rectangles(192, 192, 8)
    inside = centres_inside(rectangles, as_truth([(100.0, 0.0, 192.0, 24.0)]))
    assert np.argwhere(inside).tolist() == [[0, 4], [0, 5], [0, 6], [0, 7]]


def test_peak_counts_by_its_patch_centre_in_original_pixels():
    rectangles = centre_crop_rectangles(256, 192, 8)  # patches of 24, the first at x = 32
    maps = np.zeros((2, 8, 8))
    maps[0, 0, 1] = maps[1, 1, 0] = 1.0
    assert peaks_inside(maps, rectangles, [(60.0, 0.0, 80.0, 20.0)]).tolist() == [True, False]
    assert peaks_inside(maps, rectangles, [(69.0, 0.0, 80.0, 20.0)]).tolist() == [False, False]
    assert peaks_inside(maps.swapaxes(1, 2), rectangles, [(60.0, 0.0, 80.0, 20.0)]).tolist() == [False, True]


def test_a_tie_with_a_patch_outside_is_a_miss():
    rectangles = centre_crop_rectangles(192, 192, 8)
    maps = np.zeros((2, 8, 8))
    maps[0, 0, :2] = maps[1, 0, 0] = 1.0
    assert peaks_inside(maps, rectangles, [(0.0, 0.0, 24.0, 24.0)]).tolist() == [False, True]


def test_maps_of_another_grid_are_refused():
    with pytest.raises(ValueError, match="maps of"):
        peaks_inside(np.zeros((4, 4)), centre_crop_rectangles(192, 192, 8), [(0, 0, 1, 1)])


def test_a_peak_in_any_of_the_boxes_is_inside():
    rectangles = centre_crop_rectangles(192, 192, 8)
    maps = np.zeros((1, 8, 8))
    maps[0, 7, 7] = 1.0
    first, last = (0.0, 0.0, 24.0, 24.0), (168.0, 168.0, 192.0, 192.0)
    assert peaks_inside(maps, rectangles, [first, last]).tolist() == [True]
    assert peaks_inside(maps, rectangles, [first]).tolist() == [False]


def test_the_whole_picture_is_tiled_where_the_crop_is_ignored():
    assert np.array_equal(whole_rectangles(192, 192, 8), centre_crop_rectangles(192, 192, 8))
    wide = whole_rectangles(256, 192, 8)
    assert wide[0, 0].tolist() == [0, 0, 32, 24]
    assert wide[-1, -1].tolist() == [224, 168, 256, 192]


def test_judging_needs_no_torch():
    code = "import sys, teach.peaks, teach.sightings, teach.world; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
