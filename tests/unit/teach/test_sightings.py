"""Sightings: rows come from the witness, one per naming token, read as they should be and as they should not."""

from __future__ import annotations

import random

import numpy as np
import pytest

from shapes.evaluate import SUBJECT
from shapes.questions import ask
from shapes.scenes import make_scene
from shapes.sightings import held_out
from teach.peaks import centre_crop_rectangles, whole_rectangles
from teach.sightings import CROP_IGNORED, READINGS, Item, look, sightings_of
from teach.witness import Seen, Witness

LAYERS, HEADS, GRID = 2, 3, 8
TOKENS = ["From", " left", " to", " right", ":"]


def pointed(rectangles, box) -> np.ndarray:
    """[grid, grid] float32 with its peak at the patch nearest to the middle of a box."""
    middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    centres = (rectangles[..., :2] + rectangles[..., 2:]) / 2
    far = np.abs(centres - middle).max(-1)
    return (far == far.min()).astype(np.float32)


@pytest.fixture(scope="module")
def item() -> Item:
    """A description of a scene that is half as wide again as what the model sees, with objects far from its middle."""
    scene = make_scene(random.Random(17), "landscape")
    assert scene.image.size == (288, 192)
    return Item(scene, ask(random.Random(0), scene.layout, "describe"))


def seen(item: Item, place) -> Seen:
    """An answer that describes the scene, whose row for each object's words peaks where `place` says."""
    tokens, rows = [*TOKENS], [np.zeros((GRID, GRID), np.float32)] * (1 + len(TOKENS))
    for thing in item.scene.objects:
        tokens += [f" {thing.colour}", f" {thing.shape}", ","]
        at = pointed(place(item.scene.image.width, item.scene.image.height, GRID), thing.box)
        rows += [at, at, np.roll(at, 4, axis=1)]
    every = np.stack([*rows, rows[0]])
    return Seen("".join(tokens), tokens, np.broadcast_to(every[:, None, None], (len(every), LAYERS, HEADS, GRID, GRID)))


def test_every_naming_token_has_a_sighting_that_hits_by_its_own_row(item):
    found = sightings_of(item, seen(item, centre_crop_rectangles), item.scene, SUBJECT.truth)
    assert len(found) == 2 * len(item.scene.objects)
    assert [one.naming.role for one in found] == ["colour", "shape"] * len(item.scene.objects)
    for one in found:
        assert one.kind == "describe"
        assert one.heads["right row"].all()
        assert one.heads["right row"].shape == one.shares.shape == (LAYERS, HEADS)
        assert one.mean["right row"]
        assert {*one.heads} == {*READINGS, CROP_IGNORED}, "a picture that is not square"
        assert one.elsewhere.all(), "the stranger is the scene itself"
        assert one.object_chance == 1 / len(item.scene.objects)
        assert 0 < one.uniform_chance < 0.3
    assert all(one.heads["one row late"].all() for one in found[::2]), "the shape's row is about the same object"
    assert not any(one.heads["one row late"].any() for one in found[1::2])
    assert not any(one.heads["one row early"].any() for one in found[::2])
    assert not all(one.heads["grid transposed"].any() for one in found)


def test_rows_that_were_laid_over_the_whole_picture_show_as_such(item):
    wrong = sightings_of(item, seen(item, whole_rectangles), item.scene, SUBJECT.truth)
    assert all(one.heads[CROP_IGNORED].all() for one in wrong)
    assert not all(one.heads["right row"].any() for one in wrong)


def test_a_stranger_of_fewer_objects_serves_all_the_same(item):
    stranger = next(
        scene
        for scene in (make_scene(random.Random(seed)) for seed in range(50))
        if len(scene.objects) < len(item.scene.objects)
    )
    found = sightings_of(item, seen(item, centre_crop_rectangles), stranger, SUBJECT.truth)
    assert not all(one.elsewhere.all() for one in found)


@pytest.fixture(scope="module")
def witness(shipped) -> Witness:
    return Witness(shipped)


@pytest.fixture(scope="module")
def pair() -> list[Item]:
    """Two items with answers of different lengths."""
    items = [item for item in held_out(71, 2) if item.question.kind in ("describe", "count")]
    return [items[0], items[-1]]


def test_the_witness_answers_and_its_rows_are_the_answers_tokens(witness, pair):
    one, other = witness.look([item.scene.image for item in pair], [item.question.text for item in pair])
    assert one.text == pair[0].question.answer
    assert other.text == pair[1].question.answer
    for answer in (one, other):
        assert answer.rows.shape == (len(answer.tokens) + 2, 4, 8, GRID, GRID)
        assert answer.rows.dtype == np.float32
        assert (answer.rows.sum((-1, -2)) <= 1 + 1e-5).all()
        assert "".join(answer.tokens).replace("</s>", "").replace("<pad>", "").strip() == answer.text


def test_padding_of_a_batch_changes_nothing(witness, pair):
    together = witness.look([item.scene.image for item in pair], [item.question.text for item in pair])
    for item, batched in zip(pair, together, strict=True):
        [alone] = witness.look([item.scene.image], [item.question.text])
        assert batched.text == alone.text
        count = min(len(batched.rows), len(alone.rows)) - 1
        np.testing.assert_allclose(batched.rows[1:count], alone.rows[1:count], atol=1e-5)


def test_looking_gives_an_answer_per_item_and_says_how_far_it_is(witness, pair):
    lines: list[str] = []
    answers, sightings = look(witness, pair, SUBJECT.truth, lines.append)
    assert [answer.item for answer in answers] == pair
    assert all(answer.right for answer in answers)
    assert len(sightings) == 2 * len(pair[0].scene.objects), "a number names nothing"
    assert lines == ["2/2 questions"]
