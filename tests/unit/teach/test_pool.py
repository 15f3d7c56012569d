"""The pool: the shortcut's pixels are the processor's own, labels lie on their objects, it comes back whole."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from llava_eval.truth import as_truth, centres_inside
from shapes.scenes import make_scene
from teach.peaks import centre_crop_rectangles
from teach.pool import patch_labels, pool, seen_pixels

SIDE, GRID = 96, 8


def shortcut(taught, pixels):
    """What the model gets of pictures that are not mirrored."""
    given = replace(taught, pixels=torch.from_numpy(np.stack(pixels)))
    count = len(pixels)
    return given.pixel_values({"numbers": torch.arange(count), "mirrored": torch.zeros(count, 2, dtype=torch.bool)})


@pytest.mark.parametrize("orientation", ["square", "landscape", "portrait"])
def test_shortcut_equals_the_processor(taught, processor, orientation):
    images = [make_scene(random.Random(seed), orientation).image for seed in range(6)]
    wanted = processor.image_processor(images=images, return_tensors="pt").pixel_values
    got = shortcut(taught, [seen_pixels(image, SIDE) for image in images])
    assert got.shape == wanted.shape == (6, 3, SIDE, SIDE)
    assert float((got - wanted).abs().max()) < 1e-5


def test_shortcut_equals_the_processor_at_sizes_that_do_not_divide(taught, processor):
    noise = np.random.default_rng(0).integers(0, 256, (211, 307, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    wanted = processor.image_processor(images=[image], return_tensors="pt").pixel_values
    assert float((shortcut(taught, [seen_pixels(image, SIDE)]) - wanted).abs().max()) < 1e-5


def test_a_picture_of_the_seen_size_is_cropped_alone():
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE + 20, 3), dtype=np.uint8)
    assert np.array_equal(seen_pixels(Image.fromarray(noise), SIDE), noise[:, 10:-10])


@pytest.mark.parametrize("orientation", ["square", "landscape", "portrait"])
def test_labelled_patches_lie_on_their_object(orientation):
    for seed in range(10):
        scene = make_scene(random.Random(seed), orientation)
        labels = patch_labels(scene, GRID)
        assert labels.shape == (GRID, GRID)
        rectangles = centre_crop_rectangles(scene.layout.width_px, scene.layout.height_px, GRID)
        for index, thing in enumerate(scene.objects):
            mine = labels == 1 + index
            assert mine.any()
            x0, y0, x1, y1 = thing.box
            touching = (
                (rectangles[..., 0] < x1)
                & (rectangles[..., 2] > x0)
                & (rectangles[..., 1] < y1)
                & (rectangles[..., 3] > y0)
            )
            assert not (mine & ~touching).any()
            assert (mine & centres_inside(rectangles, as_truth([thing.box]))).any()


def test_the_pool_comes_back_whole_and_the_seed_decides(world, scenes, tmp_path, monkeypatch):
    made = pool(world, tmp_path, 8, seed=3, processes=1)
    monkeypatch.setattr(world, "scene", None)  # what is there is not made again
    loaded = pool(world, tmp_path, 8, seed=3, processes=1)
    monkeypatch.undo()
    for one in (made, loaded):
        assert len(one) == 8
        assert one.layouts == scenes.layouts
        assert np.array_equal(one.pixels, scenes.pixels)
        assert np.array_equal(one.patches, scenes.patches)
    assert pool(world, tmp_path, 8, seed=2, processes=1).layouts != scenes.layouts
    assert pool(world, tmp_path, 3, seed=3, processes=1).layouts == scenes.layouts[:3], "a scene depends on its number"


def test_several_processes_make_the_same_pool(world, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr("teach.pool._CHUNK", 3)
    made = pool(world, tmp_path, 8, seed=3, processes=2)
    assert made.layouts == scenes.layouts
    assert np.array_equal(made.pixels, scenes.pixels)
    assert np.array_equal(made.patches, scenes.patches)
