"""Metrics that ask the model against boxes: what is asked, how ranks are compared, and the table of it."""

from __future__ import annotations

import numpy as np
import pytest

from bench.known.asked import JUDGED_KINDS, numbered
from bench.known.faith import BASELINES, CONTROL, TRUE_BOX, Remembering, agreement, better, judge, keys, mean, place
from bench.known.faithfulness import FILE, asked_of, chosen, figures, ranked
from bench.known.page import PAGE, faith_replaced
from bench.parts.results import PUBLISHED, read
from shapes.pointing import Judged

SCENES = 30
NAMES = ["a", "b", "c", "d"]
INSERTION, DELETION, ALONE = "insertion, grey", "deletion, grey", "top_alone, grey"


class Counting:
    """A scorer of a word that needs the last patch, which counts what it is asked."""

    def __init__(self, baseline: str = "grey") -> None:
        self.baseline, self.asked = baseline, 0

    def log_probs(self, keep: np.ndarray) -> np.ndarray:
        self.asked += len(keep)
        return np.log(np.where(keep[:, -1], 0.9, 0.2))


@pytest.fixture
def known() -> dict[str, object]:
    """Maps that point the better the later they come: two metrics say so, the third says the contrary."""
    rng = np.random.default_rng(0)
    raw: dict[str, object] = {"words": [2] * SCENES}
    for rank, name in enumerate((*NAMES, TRUE_BOX)):
        hits = 0.4 * rank + 0.1 * rng.random(SCENES)
        wrong = (2 - hits).tolist()
        raw[name] = {"pointing_game": hits.tolist(), INSERTION: (0.1 * hits).tolist(), DELETION: wrong, ALONE: wrong}
    raw[CONTROL] = {INSERTION: [0.04] * SCENES, DELETION: [1.4] * SCENES, ALONE: [1.4] * SCENES}
    return raw


def test_a_scorer_is_asked_about_every_set_once() -> None:
    asked = Counting()
    scorer = Remembering(asked)
    keep = np.array([[True, False], [False, False], [True, False], [True, True]])
    assert np.exp(scorer.log_probs(keep)) == pytest.approx([0.2, 0.2, 0.2, 0.9])
    assert np.exp(scorer.log_probs(keep[::-1])) == pytest.approx([0.9, 0.2, 0.2, 0.2])
    assert (asked.asked, scorer.baseline) == (3, "grey")


def test_every_metric_judges_every_map_on_every_baseline_beside_chance() -> None:
    x, y = np.meshgrid([0, 10, 20, 30], [0, 10, 20, 30])
    grid = np.stack([x, y, x + 10, y + 10], axis=-1).astype(np.float64)
    last = np.zeros((4, 4))
    last[-1, -1] = 1.0
    scorers = [Counting(baseline) for baseline in BASELINES]
    found = judge({"right": last, "wrong": -last}, grid, (30, 30, 40, 40), scorers, {"orders": 3, "sets": 2})
    assert set(found) == {"right", "wrong", CONTROL}
    assert set(found["right"]) - {"pointing_game"} == set(found[CONTROL]) == set(keys())
    assert (found["right"]["pointing_game"], found["wrong"]["pointing_game"]) == (1, 0)
    for key in (INSERTION, "insertion, mean embedding"):
        assert found["right"][key] == pytest.approx((0.2 + 0.9) / 2), "one patch: the word's own"
        assert found["wrong"][key] == pytest.approx(0.2)
    wrong, chance, right = (found[one]["insertion_auc, grey"] for one in ("wrong", CONTROL, "right"))
    assert wrong < chance < right
    assert found["right"][DELETION] == pytest.approx((0.9 + 0.2) / 2)


@pytest.mark.parametrize(("key", "agrees", "at"), [(INSERTION, 1, 1), (DELETION, 1, 1), (ALONE, -1, 5)])
def test_metrics_that_rank_as_pointing_does_agree_and_lower_may_be_better(key, agrees, at, known) -> None:
    found = agreement(known, NAMES, key)
    assert (found.value, found.low, found.high) == pytest.approx((agrees, agrees, agrees))
    assert place(known, NAMES, key) == at


def test_the_true_box_is_compared_with_random_sets_word_by_word(known) -> None:
    box = np.mean(known[TRUE_BOX]["pointing_game"]) / 2
    assert mean(known, TRUE_BOX, INSERTION).value == pytest.approx(0.1 * box)
    assert better(known, TRUE_BOX, INSERTION).value == pytest.approx(0.1 * box - 0.02)
    assert better(known, TRUE_BOX, DELETION).value == pytest.approx(0.7 - (1 - box))
    assert better(known, TRUE_BOX, ALONE).high < 0, "more is better, and the true box has less"


def test_two_words_of_a_scene_are_asked_about_in_turn() -> None:
    words = [Judged(3, "colour", 0, 2), Judged(4, "shape", 0, 5), Judged(6, "colour", 1, 5), Judged(7, "shape", 1, 5)]
    assert [[word.step for word in chosen(words, scene, 2)] for scene in range(5)] == [[3], [4], [6], [7], [3]]
    answer = [Judged(1, "again", 1, 0), Judged(2, "where", 1, 0), Judged(5, "where", 1, 0)]
    assert [word.step for word in chosen(answer, 3, 2)] == [2]
    items = [item for scene, item in numbered(1) if not scene]
    pairs = [[item.question.kind for item in asked_of(scene, items)] for scene in range(len(items))]
    assert {pair[0] for pair in pairs} == {"describe"}
    kinds = {item.question.kind for item in items} & {*JUDGED_KINDS}
    assert {pair[1] for pair in pairs} == kinds - {"describe"}


def test_the_page_and_the_figures_are_those_of_the_published_numbers() -> None:
    result = read(PUBLISHED / FILE)
    assert result is not None
    document = PAGE.read_text("utf-8")
    assert document == faith_replaced(document, result)
    again = figures(result.raw)
    assert [figure.name for figure in again] == [figure.name for figure in result.figures]
    for one, other in zip(again, result.figures, strict=True):
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), abs=1e-5)
    assert {figure.name for figure in again if figure.note} == set(keys())
    assert len(ranked(result.raw)) >= 15
