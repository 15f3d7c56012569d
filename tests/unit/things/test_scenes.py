"""Scenes of things: boxes and labels agree, the seed is the scene, and the pictures are there for every word."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest

from things.kinds import COLOURED, COLOURS, KINDS
from things.pictograms import pictogram
from things.scenes import BASE_SIDE_PX, Layout, Scene, make_scene

SCENES = [make_scene(random.Random(seed)) for seed in range(30)]


def test_boxes_are_those_of_the_labelled_pixels():
    for scene in SCENES:
        for number, unit in enumerate(scene.layout.units, start=1):
            rows, columns = np.nonzero(scene.labels == number)
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == unit.box
            assert 1 <= unit.count == len(unit.boxes) <= 3
        assert scene.labels.max() == len(scene.layout.units)
        assert 1 <= scene.layout.things <= 5


def test_units_are_of_different_kinds_from_left_to_right_in_the_central_square():
    for scene in SCENES:
        layout = scene.layout
        assert len({unit.kind for unit in layout.units}) == len(layout.units)
        places = [layout.place(unit) for unit in layout.units]
        assert places == sorted(places)
        for unit in layout.units:
            corners = np.array([layout.in_crop(unit.box[:2]), layout.in_crop(unit.box[2:])])
            assert corners.min() > -0.06
            assert corners.max() < 1.06
            assert (unit.colour in COLOURS) == (unit.kind in COLOURED)


def test_a_seed_is_a_scene_and_the_size_scales_it():
    one, again, small = (make_scene(random.Random(5), side_px=side) for side in (448, 448, 224))
    assert one.layout == again.layout
    assert np.array_equal(np.asarray(one.image), np.asarray(again.image))
    assert [unit.name for unit in small.layout.units] == [unit.name for unit in one.layout.units]
    for large, little in zip(one.layout.units, small.layout.units, strict=True):
        np.testing.assert_allclose(np.array(little.box) * 2, large.box, atol=6)


@pytest.mark.parametrize(("orientation", "wider"), [("landscape", 1), ("portrait", -1), ("square", 0)])
def test_orientations(orientation, wider):
    scene = make_scene(random.Random(2), orientation)
    assert np.sign(scene.image.width - scene.image.height) == wider
    assert scene.layout.side_px == BASE_SIDE_PX
    assert scene.labels.shape == (scene.image.height, scene.image.width)


def mirrored(scene: Scene) -> Layout:
    """The layout as the mirrored labels show it."""
    labels = scene.labels[:, ::-1]
    found = {}
    for number, unit in enumerate(scene.layout.units, start=1):
        rows, columns = np.nonzero(labels == number)
        found[unit.kind] = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    return found


def test_a_mirrored_layout_is_what_the_mirrored_labels_show():
    for scene in SCENES:
        layout = scene.layout.mirrored()
        assert {unit.kind: unit.box for unit in layout.units} == mirrored(scene)
        assert layout.mirrored() == scene.layout
        places = [layout.place(unit) for unit in layout.units]
        assert places == sorted(places)


def test_every_kind_has_its_pictogram_and_its_colours():
    for kind in KINDS:
        picture = pictogram(kind, None)
        assert picture.mode == "RGBA"
        assert picture.getbbox() == (0, 0, *picture.size)
    for kind in COLOURED:
        shades = {
            colour: np.asarray(pictogram(kind, colour).convert("RGB")).reshape(-1, 3).mean(0) for colour in COLOURS
        }
        pairs = [(a, b) for a in COLOURS for b in COLOURS if a < b]
        assert min(np.abs(shades[a] - shades[b]).max() for a, b in pairs) > 10, kind


def test_scenes_and_questions_need_no_torch():
    code = "import sys, things.scenes, things.questions, things.naming; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
