"""Heads in order: planted ones come first, intervals are over images, the choice follows its rule, roles part words."""

from __future__ import annotations

import numpy as np
import pytest

from llava_eval.criterion import WordMaps, criterion
from llava_eval.ranking import MOST_HEADS, Evidence, rank
from llava_eval.roles import MOST_ROLES, cover, found_again
from llava_eval.statistics import resampled_means

LAYERS, HEADS = 2, 3


def noisy(means: np.ndarray, words: int, spread: float = 0.1, seed: int = 0) -> np.ndarray:
    """Scores [word, layer, head] about known means."""
    return means + np.random.default_rng(seed).normal(0, spread, (words, *means.shape))


def test_the_best_head_alone_where_it_is_far_ahead() -> None:
    means = np.full((LAYERS, HEADS), 0.4)
    means[1, 2], means[0, 1] = 0.9, 0.7
    found = rank(noisy(means, 40), [f"image {i}" for i in range(40)])
    assert (found.words, found.images, found.chosen) == (40, 40, ((1, 2),))
    assert found.order()[:2] == [(1, 2), (0, 1)]
    assert found.low is not None
    assert found.high is not None
    assert (found.low < found.scores).all()
    assert (found.scores < found.high).all()
    assert found.high[1, 2] - found.low[1, 2] == pytest.approx(2 * 1.96 * 0.1 / np.sqrt(40), rel=0.3)


def test_heads_that_cannot_be_told_apart_are_chosen_together_and_four_at_most() -> None:
    series = np.random.default_rng(0).normal(0.8, 0.1, 30)
    images = [f"image {i}" for i in range(30)]
    alike = np.stack([series - 0.5, *(np.roll(series, 5 * turn) for turn in range(5))], 1).reshape(30, LAYERS, HEADS)
    assert rank(alike, images).chosen == ((0, 1), (0, 2), (1, 0), (1, 1))
    assert MOST_HEADS == 4
    assert rank(alike, images, top=2).chosen == ((0, 1), (0, 2))
    assert len(rank(alike, images, top=6).chosen) == 6
    # Heads that rise and fall together are told apart by differences far below the spread of each.
    together = np.full((30, LAYERS, HEADS), 0.5) + np.random.default_rng(0).normal(0, 0.2, (30, 1, 1))
    together[:, 1, 1] += 0.02
    assert rank(together, [str(i) for i in range(30)]).chosen == ((1, 1),)


def test_ties_go_by_layer_and_head_and_one_image_has_no_interval() -> None:
    scores = np.zeros((3, LAYERS, HEADS))
    scores[:, [0, 1], [2, 0]] = 1.0
    found = rank(scores, ["one"] * 3)
    assert (found.low, found.high, found.images) == (None, None, 1)
    assert found.chosen == ((0, 2), (1, 0))


def test_words_of_one_image_are_one_draw() -> None:
    scores = np.repeat(np.random.default_rng(1).random((10, 1)), 5, axis=0)
    apart, together = range(50), np.repeat(np.arange(10), 5)
    narrow, wide = (resampled_means(scores, list(images)) for images in (apart, together))
    assert narrow is not None
    assert wide is not None
    assert wide.std() > 1.8 * narrow.std()
    assert (resampled_means(scores, list(together)) == wide).all(), "the same numbers every time"


def maps_at(*patches: int) -> np.ndarray:
    """[layer, head, patch]: where each head looks."""
    maps = np.full((LAYERS * HEADS, 4), 0.01)
    maps[np.arange(len(patches)), patches] = 1.0
    return maps.reshape(LAYERS, HEADS, 4)


def test_evidence_keeps_kinds_apart_and_says_what_could_judge() -> None:
    evidence = Evidence({name: criterion(name) for name in ("pointing", "agreement")})
    rects = np.array([[0, 0, 1, 1], [1, 0, 2, 1], [0, 1, 1, 2], [1, 1, 2, 2.0]])
    for number in range(6):
        spot = number % 4
        box = np.array([rects[spot]])
        first = WordMaps(maps_at(spot, 3 - spot, 0, 1, 2, 3), ((2, 2),), rects, box, np.eye(4)[spot])
        last = WordMaps(maps_at(3 - spot, spot, 0, 1, 2, 3), ((2, 2),), rects, None, np.eye(4)[spot])
        assert evidence.add("red", f"image {number}", ["first", "word"], first) == {"pointing", "agreement"}
        assert evidence.add("star", f"image {number}", ["last", "word"], last) == {"agreement"}
    for kind, name, head in (
        ("first", "pointing", (0, 0)),
        ("first", "agreement", (0, 0)),
        ("last", "agreement", (0, 1)),
    ):
        found = evidence.ranking(kind, name)
        assert found is not None
        assert found.chosen == (head,)
    assert evidence.ranking("last", "pointing") is None
    measured = evidence.measured("word", "agreement")
    assert measured is not None
    assert measured.texts[:2] == ("red", "star")
    assert evidence.scores(measured, "agreement").shape == (12, LAYERS, HEADS)


def test_roles_part_words_among_few_heads_and_say_how_sure_they_are() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0.3, 0.05, (60, 12))
    scores[:, 4] += 0.35  # fair for every word
    scores[:30, 7] += 0.6
    scores[30:, 2] += 0.6
    images = [str(i % 30) for i in range(60)]
    assert sorted(cover(scores)) == [2, 7]
    assert found_again(scores, images, [2, 7, 4]) == [1.0, 1.0, 0.0]
    assert found_again(scores, ["one"] * 60, [2]) is None
    assert cover(scores[:30]) == (7,), "of one kind of words one head is enough"
    assert len(cover(np.eye(40))) <= MOST_ROLES
    # Weights stand for repetition.
    weights = rng.integers(0, 3, 60).astype(float)
    repeated = np.repeat(scores, weights.astype(int), axis=0)
    assert cover(scores, weights) == cover(repeated)
