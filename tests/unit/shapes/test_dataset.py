"""Dataset: the shortcut's pixels are the processor's own, labels lie on their objects, a cache comes back whole."""

import random

import numpy as np
import pytest
from PIL import Image

from llava_eval.truth import as_truth, centres_inside
from shapes.dataset import load_scenes, make_scenes, normaliser, patch_labels, save_scenes, seen_pixels
from shapes.model import GRID, SEEN_SIDE_PX
from shapes.pointing import centre_crop_rectangles
from shapes.scenes import make_scene


@pytest.mark.parametrize("orientation", ["square", "landscape", "portrait"])
def test_shortcut_equals_the_processor(processor, orientation):
    images = [make_scene(random.Random(seed), orientation).image for seed in range(6)]
    wanted = processor.image_processor(images=images, return_tensors="pt").pixel_values
    got = normaliser(processor)(np.stack([seen_pixels(image) for image in images]))
    assert got.shape == wanted.shape == (6, 3, SEEN_SIDE_PX, SEEN_SIDE_PX)
    assert float((got - wanted).abs().max()) < 1e-5


def test_shortcut_equals_the_processor_at_sizes_that_do_not_divide(processor):
    noise = np.random.default_rng(0).integers(0, 256, (211, 307, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    wanted = processor.image_processor(images=[image], return_tensors="pt").pixel_values
    assert float((normaliser(processor)(seen_pixels(image)[None]) - wanted).abs().max()) < 1e-5


@pytest.mark.parametrize("orientation", ["square", "landscape", "portrait"])
def test_labelled_patches_lie_on_their_object(orientation):
    for seed in range(10):
        scene = make_scene(random.Random(seed), orientation)
        labels = patch_labels(scene)
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


def test_cache_comes_back_whole_and_the_seed_decides(tmp_path):
    scenes = make_scenes(5, seed=1)
    save_scenes(scenes, tmp_path / "scenes.npz")
    loaded = load_scenes(tmp_path / "scenes.npz")
    assert loaded.layouts == scenes.layouts
    assert np.array_equal(loaded.pixels, scenes.pixels)
    assert np.array_equal(loaded.patches, scenes.patches)
    assert make_scenes(5, seed=2).layouts != scenes.layouts
