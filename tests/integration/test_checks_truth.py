"""The checks tell right from wrong on scenes of known truth: a few of those that the published figures are of."""

from __future__ import annotations

import numpy as np
import pytest

from bench.known.asked import MODEL, SUBJECTS
from bench.known.checks import MAPS, SEED, asked_of, measure
from bench.known.separation import BOX, IMAGE_GOAL, MAPS_GOAL, RANDOM, area, kept, maps, needing, views_of, wrong_of
from bench.known.sets import MISSED, RIGHT, WRONG, at_random, of_box, own_and_wrong
from bench.known.tested import NATS, Answers
from llava_eval.metrics.pointing_game import peak_share
from llava_server.engine import Engine
from llava_wire.choose import choose_patches

SCENES = 3


@pytest.fixture(scope="module")
def answers(engine: Engine) -> Answers:
    return Answers(engine, asked_of(SCENES), MAPS, SUBJECTS[MODEL].truth)


def test_words_name_objects_that_vanish_when_painted_over(answers):
    assert len(answers.words) > 10
    assert {word.scene for word in answers.words} == set(range(SCENES))
    for word in answers.words:
        scene, item = answers.items[word.answer]
        thing = item.scene.objects[word.index]
        assert scene == word.scene
        assert answers.records[word.answer].tokens[word.token].text.strip() in (thing.colour, thing.shape)
        assert answers.falls[word.answer][word.token] > NATS
        assert 0 < word.inside.sum() <= (word.box > 0).sum()


def test_sets_are_of_the_box_of_maps_and_of_wrong_maps(answers):
    random = np.random.default_rng(SEED)
    for place, patches in of_box(answers, 4, random).patches.items():
        box = answers.words[place].box
        assert len(patches) == 4
        assert box[[*patches]].min() >= np.sort(box)[-4]
    drawn = at_random(answers, 4, random).patches
    assert {len(set(patches)) for patches in drawn.values()} == {4}
    assert len(set(drawn.values())) == len(answers.words)
    for view in MAPS:
        own, wrong = own_and_wrong(answers, view, 4)
        assert set(own.maps.values()) <= {RIGHT, MISSED}
        assert set(wrong.maps.values()) == set(WRONG)
        for place, word in enumerate(answers.words):
            one = choose_patches(answers.records[word.answer].views[view])[word.token]
            assert one[[*own.patches[place]]].min() >= np.sort(one)[-4]
            assert (own.maps[place] == RIGHT) == (peak_share(one, word.inside) == 1)
            if wrong.maps.get(place) == "transposed":
                turned = one.reshape(8, 8).T.ravel()
                assert turned[[*wrong.patches[place]]].min() >= np.sort(one)[-4]
                assert not word.inside[turned.argmax()]


def test_checks_tell_right_from_wrong(answers):
    raw = measure(answers)
    assert views_of(raw) == [*MAPS]
    assert area(*needing(raw)).value > IMAGE_GOAL
    assert kept(raw, BOX, "alone").value > 0.9
    assert kept(raw, RANDOM, "alone").value < 0.6
    assert kept(raw, RANDOM, "hidden").value > 0.9
    for view in MAPS:
        found = kept(raw, view, "alone").value
        assert found == pytest.approx(np.mean([p > 0.5 for p in raw[view]["alone"]]))
        assert found > kept(raw, wrong_of(view), "alone").value + 0.3
    values, right, scenes = maps(raw, [*MAPS])
    told = area(values, right, scenes).value
    assert told > MAPS_GOAL
    assert area(values, ~right, scenes).value == pytest.approx(1 - told)
