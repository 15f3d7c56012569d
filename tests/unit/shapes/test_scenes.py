"""Scenes: boxes hold exactly the drawn pixels, orientations are obeyed, mirroring moves boxes with pixels."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shapes.scenes import BASE_SIDE_PX, COLOURS, SHAPES, Scene, make_scene

SEEDS = range(40)


def scene_of(seed: int, orientation=None, side_px: int = BASE_SIDE_PX) -> Scene:
    return make_scene(random.Random(seed), orientation, side_px)


@pytest.mark.parametrize("seed", SEEDS)
def test_box_is_the_tightest_around_the_labelled_pixels(seed):
    scene = scene_of(seed)
    assert set(np.unique(scene.labels)) == set(range(len(scene.objects) + 1))
    for index, thing in enumerate(scene.objects):
        x0, y0, x1, y1 = (int(edge) for edge in thing.box)
        mask = scene.labels == 1 + index
        assert not np.delete(mask, np.s_[y0:y1], axis=0).any()
        assert not np.delete(mask, np.s_[x0:x1], axis=1).any()
        inside = mask[y0:y1, x0:x1]
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()


@pytest.mark.parametrize("seed", SEEDS)
def test_labelled_pixels_have_the_colour_of_their_object_in_the_picture(seed):
    scene = scene_of(seed)
    pixels = np.asarray(scene.image).astype(int)
    for index, thing in enumerate(scene.objects):
        drawn = np.unique(pixels[scene.labels == 1 + index], axis=0)
        assert len(drawn) == 1, "an object is of one flat colour"
        nearest = min(COLOURS, key=lambda name: np.abs(drawn[0] - COLOURS[name]).sum())
        assert nearest == thing.colour
    ground = pixels[scene.labels == 0]
    assert ground.min() > 120, "no drawn pixel outside the labels"


def test_boxes_do_not_touch_and_order_is_left_to_right():
    for seed in SEEDS:
        objects = scene_of(seed).objects
        centres = [thing.centre[0] for thing in objects]
        assert centres == sorted(centres)
        for index, one in enumerate(objects):
            for other in objects[index + 1 :]:
                across = max(one.box[0], other.box[0]) - min(one.box[2], other.box[2])
                down = max(one.box[1], other.box[1]) - min(one.box[3], other.box[3])
                assert max(across, down) > 0


@pytest.mark.parametrize(
    ("orientation", "sign"),
    [("square", 0), ("landscape", 1), ("portrait", -1)],
    ids=["square", "landscape", "portrait"],
)
def test_orientation_on_request_and_objects_stay_in_the_centre_crop(orientation, sign):
    for seed in SEEDS:
        scene = scene_of(seed, orientation)
        width, height = scene.image.size
        assert np.sign(width - height) == sign
        assert min(width, height) == BASE_SIDE_PX
        assert scene.labels.shape == (height, width)
        for thing in scene.objects:
            for corner in (thing.box[:2], thing.box[2:]):
                assert all(0 < part < 1 for part in scene.layout.in_crop(corner))


def test_chance_gives_all_orientations_counts_colours_and_shapes():
    scenes = [scene_of(seed) for seed in range(200)]
    signs = {int(np.sign(scene.image.width - scene.image.height)) for scene in scenes}
    assert signs == {-1, 0, 1}
    assert {len(scene.objects) for scene in scenes} == {2, 3, 4}
    assert {thing.colour for scene in scenes for thing in scene.objects} == set(COLOURS)
    assert {thing.shape for scene in scenes for thing in scene.objects} == set(SHAPES)


def test_same_seed_gives_the_same_scene_and_size_only_scales_it():
    one, again, large = scene_of(3, "landscape"), scene_of(3, "landscape"), scene_of(3, "landscape", 4 * BASE_SIDE_PX)
    assert one.layout == again.layout
    assert one.image.tobytes() == again.image.tobytes()
    assert large.image.size == (4 * one.image.width, 4 * one.image.height)
    for small_thing, large_thing in zip(one.objects, large.objects, strict=True):
        assert large_thing.name == small_thing.name
        assert np.allclose(np.array(large_thing.box) / 4, small_thing.box, atol=1.5)


@pytest.mark.parametrize(("across", "down"), [(True, False), (False, True), (True, True)])
def test_mirrored_layout_is_the_layout_of_the_mirrored_picture(across, down):
    scene = scene_of(11, "portrait")
    labels = scene.labels[:, ::-1] if across else scene.labels
    labels = labels[::-1] if down else labels
    numbers = {thing.name: 1 + index for index, thing in enumerate(scene.objects)}
    mirrored = scene.layout.flipped(horizontally=across, vertically=down)
    assert [thing.centre[0] for thing in mirrored.objects] == sorted(thing.centre[0] for thing in mirrored.objects)
    for thing in mirrored.objects:
        rows, columns = np.nonzero(labels == numbers[thing.name])
        assert thing.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_scenes_questions_and_pointing_need_no_torch():
    scripts = Path(__file__).parents[3] / "scripts"
    code = (
        f"import sys; sys.path.insert(0, {str(scripts)!r}); sys.modules['torch'] = sys.modules['transformers'] = None;"
        "import shapes.scenes, shapes.questions, shapes.pointing, shapes.world, shapes.sightings"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
