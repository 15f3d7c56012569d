"""Pointing: which token names which object, where peaks land, and Wilson's intervals against known values."""

import numpy as np
import pytest

from shapes.pointing import (
    centre_crop_rectangles,
    centres_inside,
    naming_tokens,
    peaks_inside,
    scene_interval,
    share_of,
    wilson,
)
from shapes.scenes import SceneObject

RED_CIRCLE = SceneObject("red", "circle", (0.0, 0.0, 24.0, 24.0))
BLUE_SQUARE = SceneObject("blue", "square", (100.0, 100.0, 150.0, 150.0))
OBJECTS = (RED_CIRCLE, BLUE_SQUARE)


def named(tokens, question=""):
    return [(one.step, one.word, one.role, one.index, one.asked) for one in naming_tokens(tokens, OBJECTS, question)]


def test_description_names_every_object_twice():
    tokens = [" From", " left", ":", " red", " circle", ",", " blue", " square", ".", "</s>"]
    assert named(tokens, "Describe the image.") == [
        (3, "red", "colour", 0, False),
        (4, "circle", "shape", 0, False),
        (6, "blue", "colour", 1, False),
        (7, "square", "shape", 1, False),
    ]


def test_shape_may_come_first_and_words_of_the_question_are_marked():
    assert named([" The", " square", " is", " blue", "."], "What colour is the square?") == [
        (1, "square", "shape", 1, True),
        (3, "blue", "colour", 1, False),
    ]


@pytest.mark.parametrize(
    "tokens",
    [
        ["No", ",", " there", " is", " no", " red", " circle"],
        ["Yes", ",", " a", " blue", " circle"],
        ["There", " are", " two"],
        ["red"],
        [],
    ],
    ids=["denied", "not in the scene", "no names", "half a name", "empty"],
)
def test_what_names_nothing(tokens):
    assert named(tokens) == []


def test_a_stray_colour_does_not_shift_the_pairs_after_it():
    assert [row[0] for row in named(["red", "blue", "square", "red", "circle"])] == [1, 2, 3, 4]


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
    inside = centres_inside(rectangles, (100.0, 0.0, 192.0, 24.0))
    assert np.argwhere(inside).tolist() == [[0, 4], [0, 5], [0, 6], [0, 7]]


def test_peak_counts_by_its_patch_centre_in_original_pixels():
    rectangles = centre_crop_rectangles(256, 192, 8)  # patches of 24, the first at x = 32
    maps = np.zeros((2, 8, 8))
    maps[0, 0, 1] = maps[1, 1, 0] = 1.0
    assert peaks_inside(maps, rectangles, (60.0, 0.0, 80.0, 20.0)).tolist() == [True, False]
    assert peaks_inside(maps, rectangles, (69.0, 0.0, 80.0, 20.0)).tolist() == [False, False]
    assert peaks_inside(maps.swapaxes(1, 2), rectangles, (60.0, 0.0, 80.0, 20.0)).tolist() == [False, True]


def test_maps_of_another_grid_are_refused():
    with pytest.raises(ValueError, match="maps of"):
        peaks_inside(np.zeros((4, 4)), centre_crop_rectangles(192, 192, 8), (0, 0, 1, 1))


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (80, 100, 0.7112, 0.8666)],
)
def test_wilson_against_published_values(hits, count, low, high):
    assert wilson(hits, count) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("hits", "count"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_what_is_no_proportion(hits, count):
    with pytest.raises(ValueError, match="no proportion"):
        wilson(hits, count)


def test_share_as_json_carries_its_n_and_interval():
    share = share_of([True, True, False, True])
    assert share.as_json()["value"] == 0.75
    assert share.as_json()["n"] == 4
    low, high = share.as_json()["interval_95"]
    assert 0 < low < 0.75 < high < 1


def test_an_interval_by_scenes_counts_scenes_and_not_words():
    rng = np.random.default_rng(0)
    scenes = np.repeat(np.arange(200), 8)
    independent = rng.random(1600) < 0.8
    low, high = scene_interval(independent, scenes)
    plain_low, plain_high = wilson(int(independent.sum()), 1600)
    assert high - low == pytest.approx(plain_high - plain_low, rel=0.2)
    together = np.repeat(rng.random(200) < 0.8, 8)
    low, high = scene_interval(together, scenes)
    alone_low, alone_high = wilson(int(together[::8].sum()), 200)
    assert high - low == pytest.approx(alone_high - alone_low, rel=0.1), "eight equal words are one"
    assert low < together.mean() < high
    assert scene_interval([True, True], [1, 2]) == (1.0, 1.0)
    with pytest.raises(ValueError, match="2 or more"):
        scene_interval([True, False], [3, 3])
