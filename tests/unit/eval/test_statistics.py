"""Statistics: Wilson's intervals against known values, intervals over pictures; what the package imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llava_eval.statistics import auroc, aurocs, cluster_interval, share_of, spearman, wilson

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (80, 100, 0.7112, 0.8666)],
)
def test_wilson_against_published_values(hits: int, count: int, low: float, high: float) -> None:
    assert wilson(hits, count) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("hits", "count"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_what_is_no_proportion(hits: int, count: int) -> None:
    with pytest.raises(ValueError, match="expected a proportion"):
        wilson(hits, count)


def test_share_as_json_carries_its_n_and_interval() -> None:
    share = share_of([True, True, False, True])
    assert share.as_json()["value"] == 0.75
    assert share.as_json()["n"] == 4
    low, high = share.as_json()["interval_95"]
    assert 0 < low < 0.75 < high < 1


def test_an_interval_by_scenes_counts_scenes_and_not_words() -> None:
    rng = np.random.default_rng(0)
    scenes = np.repeat(np.arange(200), 8)
    independent = rng.random(1600) < 0.8
    low, high = cluster_interval(independent, scenes)
    plain_low, plain_high = wilson(int(independent.sum()), 1600)
    assert high - low == pytest.approx(plain_high - plain_low, rel=0.2)
    together = np.repeat(rng.random(200) < 0.8, 8)
    low, high = cluster_interval(together, scenes)
    alone_low, alone_high = wilson(int(together[::8].sum()), 200)
    assert high - low == pytest.approx(alone_high - alone_low, rel=0.1), "eight equal words are one"
    assert low < together.mean() < high
    assert cluster_interval([True, True], [1, 2]) == (1.0, 1.0)
    with pytest.raises(ValueError, match="2 or more"):
        cluster_interval([True, False], [3, 3])
    with pytest.raises(ValueError, match=r"scores: got 0.0 to 3.0, expected 0 to 1"):
        cluster_interval([0.0, 3.0], [1, 2])


def test_ranks_agree_whatever_the_numbers_are() -> None:
    assert spearman([1, 2, 3, 4], [0.1, 5, 6, 900]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [9, 7, 5, 1]) == pytest.approx(-1)
    # 1 - 6 * (0 + 1 + 1) / (4 * 15): one neighbouring pair is swapped.
    assert spearman([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
    assert spearman([1, 1, 2], [1, 2, 3]) == pytest.approx(0.866, abs=1e-3), "equal values share their mean rank"
    for wrong, says in [(([1, 2], [1, 2]), "pairs: got 2"), (([1, 2, 3], [4, 4, 4]), "all equal")]:
        with pytest.raises(ValueError, match=says):
            spearman(*wrong)


def test_importing_and_listing_metrics_and_criteria_needs_numpy_alone() -> None:
    code = (
        "import sys\nfor name in ('torch', 'transformers', 'PIL', 'jinja2', 'llava_viewer', 'llava_server'):\n"
        "    sys.modules[name] = None\n"
        "import llava_eval.ranking, llava_eval.roles\n"
        "from llava_eval.metric import METRICS\nfrom llava_eval.criterion import CRITERIA\n"
        "for door in (METRICS, CRITERIA):\n    for name in door.known():\n        door.load(name)\nprint('done')"
    )
    path = f"import sys; sys.path[:0] = [{str(ROOT / 'handler')!r}, {str(ROOT / 'viewer')!r}]\n"
    done = subprocess.run([sys.executable, "-c", path + code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "done"


def test_auroc_counts_pairs_and_ties_half():
    scores, truth = np.array([3.0, 1.0, 2.0, 2.0, 5.0]), np.array([True, False, True, False, False])
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[truth] for b in scores[~truth]]
    assert auroc(scores, truth) == np.mean(pairs) == pytest.approx(3.5 / 6)
    assert auroc(truth.astype(float), truth) == 1.0
    counts = np.array([[2, 1, 0, 3, 1], [1, 0, 4, 1, 2]])
    drawn = [auroc(np.repeat(scores, times), np.repeat(truth, times)) for times in counts]
    assert aurocs(scores, truth, counts) == pytest.approx(drawn)
    assert len({*drawn, auroc(scores, truth)}) == 3
    with pytest.raises(ValueError, match="some of each"):
        auroc(scores, np.ones(5, bool))
