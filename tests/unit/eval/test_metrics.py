"""Metrics: values known by hand, boxes and masks alike, and refusals with their reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llava_doors.door import DoorError
from llava_eval.box_rule import map_box
from llava_eval.metric import METRICS, Score, evaluate, metric, needs_truth
from llava_eval.truth import MetricError, as_truth, centres_inside, covered, object_patches

EDGES = np.arange(0, 80, 10.0)
X, Y = np.meshgrid(EDGES, EDGES)
GRID = np.stack([X, Y, X + 10, Y + 10], axis=-1)
"""8 x 8 patches of 10 px on a picture of 80 x 80."""
BOX = (20.0, 10.0, 40.0, 30.0)
"""Patches of rows 1 and 2, columns 2 and 3."""


def mask_of(*boxes: tuple[float, float, float, float]) -> np.ndarray:
    """The same as boxes of whole pixels."""
    mask = np.zeros((80, 80), bool)
    for x0, y0, x1, y1 in boxes:
        mask[int(y0) : int(y1), int(x0) : int(x1)] = True
    return mask


class Evidence:
    """A word that needs `least` of some patches: p 0.9 with them, 0.1 without."""

    baseline = "mean embedding"

    def __init__(self, patches: np.ndarray, least: int) -> None:
        self.patches, self.least, self.asked = patches.ravel(), least, 0

    def log_probs(self, keep: np.ndarray) -> np.ndarray:
        self.asked += 1
        enough = (keep & self.patches).sum(-1) >= self.least
        return np.log(np.where(enough, 0.9, 0.1))


def at(*cells: tuple[int, int], value: float = 1.0, rest: float = 0.0) -> np.ndarray:
    """A map [8, 8] with a value at some cells."""
    values = np.full((8, 8), rest)
    for cell in cells:
        values[cell] = value
    return values


def test_boxes_and_their_mask_cover_the_same_and_overlaps_count_once() -> None:
    boxes = [BOX, (25.0, 15.0, 57.0, 33.0)]
    by_boxes, by_mask = covered(GRID, as_truth(boxes)), covered(GRID, mask_of(*boxes))
    assert np.allclose(by_boxes, by_mask)
    assert by_boxes.sum() * 100 == pytest.approx(mask_of(*boxes).sum())
    assert by_boxes[1, 2] == 1
    assert by_boxes[3, 5] == pytest.approx(0.7 * 0.3)
    assert (centres_inside(GRID, as_truth(boxes)) == centres_inside(GRID, mask_of(*boxes))).all()
    assert covered(GRID, as_truth([(-50, -50, 200, 200)])).min() == 1
    assert centres_inside(GRID + 1000, mask_of(BOX)).sum() == 0
    assert object_patches(GRID, as_truth([BOX])) == 4
    assert object_patches(GRID, as_truth([(1, 1, 2, 2)])) == 1


def test_the_grid_may_be_a_list_of_patches() -> None:
    values = at((1, 2), rest=0.1)
    for name in ("pointing_game", "energy_in_box", "share_in_box", "enrichment"):
        whole = evaluate(name, values, GRID, [BOX])
        assert evaluate(name, values.ravel(), GRID.reshape(-1, 4), [BOX]) == whole
        assert evaluate(name, values, GRID, mask_of(BOX)).value == pytest.approx(whole.value)


def test_the_peak_is_in_the_object_and_ties_share() -> None:
    assert evaluate("pointing_game", at((1, 2)), GRID, [BOX]).value == 1
    assert evaluate("pointing_game", at((1, 2)).T, GRID, [BOX]).value == 0, "a transposed grid is noticed"
    assert evaluate("pointing_game", at((1, 2), (2, 3), (7, 7)), GRID, [BOX]).value == pytest.approx(2 / 3)
    assert evaluate("pointing_game", np.zeros((8, 8)), GRID, [BOX]).value == pytest.approx(4 / 64)


def test_energy_share_and_enrichment() -> None:
    values = at((1, 2), value=3.0) + at((7, 7)) - at((0, 0), (2, 2), value=0.5)
    assert evaluate("energy_in_box", values, GRID, [BOX]).value == pytest.approx(0.75)
    assert evaluate("share_in_box", values, GRID, [BOX]).value == pytest.approx(2.5)
    assert evaluate("enrichment", values, GRID, [BOX]).value == pytest.approx(0.75 * 16)
    half = (25.0, 10.0, 30.0, 20.0)
    assert evaluate("energy_in_box", at((1, 2)), GRID, [half]).value == pytest.approx(0.5)
    assert evaluate("energy_in_box", np.zeros((8, 8)), GRID, [BOX]).value == pytest.approx(4 / 64)
    assert evaluate("enrichment", np.ones((8, 8)), GRID, [BOX]).value == pytest.approx(1)
    with pytest.raises(MetricError, match="object outside of the grid"):
        evaluate("enrichment", np.ones((8, 8)), GRID, [(200, 200, 300, 300)])


def test_the_box_rule_takes_the_part_with_the_largest_hull() -> None:
    values = at((1, 2), (1, 3), (2, 2), (2, 3)) + at((6, 6), value=90.0)
    assert map_box(values, 0) == (6, 6, 6, 6), "the mean hides what is weak"
    values[6, 6] = 2.0
    assert map_box(values, 0) == (1, 2, 2, 3)
    assert evaluate("box_iou", values, GRID, [BOX]).value == 1
    assert map_box(at((0, 0), (1, 1), (2, 2)), 0) == (0, 0, 2, 2), "corners connect"
    corner, bar = [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2)], [(6, column) for column in range(6)]
    assert map_box(at(*corner, *bar), 0) == (0, 0, 2, 2), "the hull decides (7 against 6), not the number of patches"
    assert map_box(np.ones((8, 8)), 0) == (0, 0, 7, 7)
    # A Gaussian of one patch falls below the mean, 1 / 64, between two and the root of five patches.
    assert map_box(at((4, 4)), 1.0) == (2, 2, 6, 6)


def test_overlap_of_boxes_and_its_threshold() -> None:
    values = at((1, 2), (2, 2))  # half of the box
    assert evaluate("box_iou", values, GRID, [BOX]).value == pytest.approx(0.5)
    assert evaluate("box_iou", values, GRID, mask_of(BOX)).value == pytest.approx(0.5)
    assert evaluate("box_accuracy", values, GRID, [BOX]).value == 1
    assert evaluate("box_accuracy", values, GRID, [BOX], parameters={"at": 0.51}).value == 0
    assert evaluate("box_iou", at((7, 0)), GRID, [BOX]).value == 0
    with pytest.raises(MetricError, match="got 2 boxes, expected one"):
        evaluate("box_iou", values, GRID, [BOX, BOX])
    with pytest.raises(MetricError, match=r"got \[64\], expected \[row, col\]"):
        evaluate("box_iou", values.ravel(), GRID.reshape(-1, 4), [BOX])
    for parameters, says in [({"at": 0.0}, "parameters.at: got 0.0"), ({"blur": -1.0}, "parameters.blur: got -1.0")]:
        with pytest.raises(MetricError, match=says):
            evaluate("box_accuracy", values, GRID, [BOX], parameters=parameters)


def test_insertion_and_deletion_to_object_size_with_a_control() -> None:
    inside = centres_inside(GRID, as_truth([BOX]))
    scorer = Evidence(inside, 2)
    right, wrong = inside.astype(float), (~inside).astype(float)
    shown = evaluate("insertion", right, GRID, [BOX], scorer)
    # p at 0, 1, 2 and 4 patches: .1, .1, .9, .9; the area by trapezoids over 4.
    assert shown.value == pytest.approx((0.1 + 0.5 + 2 * 0.9) / 4)
    assert shown.details["patches"] == 4
    assert (shown.details["all"], shown.details["none"]) == pytest.approx((0.9, 0.1))
    assert shown.control is not None
    assert shown.control < 0.3 < shown.value
    assert shown.details["control_low"] <= shown.control <= shown.details["control_high"]
    assert evaluate("insertion", wrong, GRID, [BOX], scorer).value == pytest.approx(0.1)
    assert scorer.asked == 2, "one question for all sets of a map"
    hidden = evaluate("deletion", right, GRID, [BOX], Evidence(inside, 3))
    # With 3 of 4 needed: .9, .9, .1, .1 at 0, 1, 2 and 4 hidden patches.
    assert hidden.value == pytest.approx((0.9 + 0.5 + 2 * 0.1) / 4)
    assert hidden.control is not None
    assert hidden.control > 0.8
    again = evaluate("insertion", right, GRID, [BOX], scorer, {"orders": 3, "seed": 1})
    assert again == evaluate("insertion", right, GRID, [BOX], scorer, {"orders": 3, "seed": 1})
    assert again.value == shown.value


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8])
def test_areas_reach_exactly_to_the_objects_size(size: int) -> None:
    box = (0.0, 0.0, 10.0 * size, 10.0)
    values = np.arange(64, 0, -1.0).reshape(8, 8)
    alone = Evidence(at(*[(0, column) for column in range(size)]) > 0, size)
    found = evaluate("insertion", values, GRID, [box], alone)
    assert found.details["patches"] == size
    assert found.value > 0.1, "the last patch of the object decides and is reached"
    assert evaluate("insertion", values, GRID, [box], Evidence(alone.patches, size + 1)).value == pytest.approx(0.1)


def test_the_strongest_alone_against_random_sets() -> None:
    inside = centres_inside(GRID, as_truth([BOX]))
    scorer = Evidence(inside, 2)
    found = evaluate("top_alone", inside.astype(float), GRID, [BOX], scorer)
    assert found.value == pytest.approx(0.9)
    assert found.details["patches"] == 4, "a sixteenth of 64"
    assert (found.details["control_low"], found.details["all"], found.details["none"]) == pytest.approx((0.1, 0.9, 0.1))
    assert found.control is not None
    assert found.control < 0.3
    assert found.details["as_good"] == pytest.approx((found.control - 0.1) / 0.8), "the sets that hold two of four"
    assert scorer.asked == 1, "one question for all sets"
    one = evaluate("top_alone", inside.astype(float), GRID, [BOX], scorer, {"top": 1})
    assert (one.value, one.details["patches"]) == (pytest.approx(0.1), 1)
    assert evaluate("top_alone", (~inside).astype(float), GRID, [BOX], scorer).value == pytest.approx(0.1)
    few = np.stack([GRID[0, 0], GRID[0, 1]])
    tiny = Evidence(np.array([True, False]), 1)
    assert evaluate("top_alone", np.array([2.0, 1.0]), few, [BOX], tiny).details["patches"] == 1, "of any grid one"


def test_full_areas_go_from_no_patch_to_all_in_equal_steps() -> None:
    inside = centres_inside(GRID, as_truth([BOX]))
    values = inside.astype(float)
    # In steps of 4 patches the word is there from 4 on: the first trapezoid has the mean of .1 and .9, the others .9.
    shown = evaluate("insertion_auc", values, GRID, [BOX], Evidence(inside, 2))
    assert shown.value == pytest.approx((0.5 + 15 * 0.9) / 16)
    hidden = evaluate("deletion_auc", values, GRID, [BOX], Evidence(inside, 3))
    assert hidden.value == pytest.approx((0.5 + 15 * 0.1) / 16)
    assert shown.details["patches"] == hidden.details["patches"] == 64
    assert shown.control is not None
    assert hidden.control is not None
    assert shown.control < shown.value
    assert hidden.control > hidden.value
    assert shown.details["as_good"] == hidden.details["as_good"] == 0
    wrong = evaluate("deletion_auc", (~inside).astype(float), GRID, [BOX], Evidence(inside, 3))
    assert wrong.details["as_good"] > 0.9, "hiding the rest first is what chance does better"
    coarse = evaluate("insertion_auc", values, GRID, [BOX], Evidence(inside, 2), {"steps": 1})
    assert coarse.value == pytest.approx(0.5)
    fine = evaluate("insertion_auc", values, GRID, [BOX], Evidence(inside, 2), {"steps": 1000})
    assert fine.value == pytest.approx((0.1 + 0.5 + 62 * 0.9) / 64), "a patch each where there are fewer than steps"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"values": np.full((8, 8), np.nan)}, "map: got NaN"),
    ({"values": np.zeros((4, 4))}, r"map: got \[4, 4\] with a grid of \[8, 8, 4\], expected"),
    ({"values": np.zeros((2, 8, 8))}, "map: got"),
    ({"grid": GRID[..., [2, 1, 0, 3]]}, "grid: got a patch without area"),
    ({"truth": []}, "truth: got boxes of"),
    ({"truth": [(5, 5, 5, 9)]}, r"truth: got the box \[5.0, 5.0, 5.0, 9.0\], expected x0 < x1"),
    ({"truth": [(0, 0, np.nan, 9)]}, "truth: got the box"),
    ({"truth": np.zeros((80, 80), bool)}, "truth: got a mask"),
    ({"name": "insertion"}, "scorer: got none, expected one"),
]


@pytest.mark.parametrize(("changed", "says"), WRONG, ids=[says[:24] for _, says in WRONG])
def test_what_cannot_be_scored_is_refused_with_its_reason(changed: dict[str, Any], says: str) -> None:
    given = {"name": "pointing_game", "values": at((1, 2)), "grid": GRID, "truth": [BOX], **changed}
    with pytest.raises(MetricError, match=says):
        evaluate(**given)


def test_a_scorer_that_gives_no_log_probabilities_is_refused() -> None:
    class Probabilities(Evidence):
        def log_probs(self, keep: np.ndarray) -> np.ndarray:
            return np.exp(super().log_probs(keep))

    with pytest.raises(MetricError, match=r"expected .* log probabilities of 0 or less"):
        evaluate("insertion", at((1, 2)), GRID, [BOX], Probabilities(at((1, 2)) > 0, 1))
    refused = [
        ("insertion", {"orders": 0}, r"parameters\.orders: got 0"),
        ("deletion_auc", {"steps": 0}, r"parameters\.steps: got 0"),
        ("top_alone", {"sets": 0}, r"parameters\.sets: got 0"),
        ("top_alone", {"top": 65}, r"parameters\.top: got 65, expected 0 to 64"),
    ]
    for name, parameters, says in refused:
        with pytest.raises(MetricError, match=says):
            evaluate(name, at((1, 2)), GRID, [BOX], Evidence(at((1, 2)) > 0, 1), parameters)


def test_every_metric_keeps_to_its_declaration() -> None:
    assert {"pointing_game", "energy_in_box", "share_in_box", "box_iou", "insertion", "deletion"} <= set(
        METRICS.known()
    )
    scorer = Evidence(at((1, 2)) > 0, 1)
    for name, declared in METRICS.known().items():
        assert {*declared.traits} - {"needs_truth"} == {"higher_is_better", "needs_model"}
        assert needs_truth(name) or declared.traits["needs_model"]
        plain, spelt = metric(name), metric(name, declared.parse({}) or None)
        assert vars(plain) == vars(spelt), "defaults of declaration and class are the same"
        better = evaluate(name, at((1, 2), (1, 3), (2, 2), (2, 3), rest=0.01), GRID, [BOX], scorer).value
        worse = evaluate(name, at((7, 7), rest=0.01), GRID, [BOX], scorer).value
        assert (better > worse) == plain.higher_is_better, name
        assert better != worse
        assert isinstance(evaluate(name, at((1, 2)), GRID, [BOX], scorer), Score)


def test_unknown_metrics_and_parameters_are_named() -> None:
    with pytest.raises(DoorError, match=r"metric: got 'pointing', expected one of .*did you mean 'pointing_game'"):
        metric("pointing")
    with pytest.raises(DoorError, match=r"parameters\.blurr: .*did you mean 'blur'"):
        metric("box_iou", {"blurr": 1})
