"""Whether metrics that ask the model rank methods as the boxes do.

Flow: words of known scenes with the maps of every method, of the true box and of chance -> every metric on both
baselines, by a scorer that is asked about no set of patches twice -> sums per scene -> `agreement`, Spearman over
maps with its interval over scenes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.parts.intervals import Interval, drawn_scenes, over_scenes
from llava_eval.metric import METRICS, Scorer, evaluate, metric
from llava_eval.statistics import spearman
from llava_eval.truth import as_truth, covered
from llava_server.look.scorer import GREY, MEAN, Baseline

TRUE_BOX, CONTROL = "the true box", "random sets"
CHANCE, SWAPPED = "patches in random order", "contributions, rows and columns swapped"
WRONG = (CHANCE, SWAPPED)
"""Maps that are ranked though no method makes them: a metric must put them last."""
BASELINES: tuple[Baseline, ...] = (MEAN, GREY)
POINTING = "pointing_game"
_DRAWS = 1000


def asking() -> list[str]:
    """The metrics that ask the model."""
    return [name for name, declared in METRICS.known().items() if declared.traits["needs_model"]]


def keys() -> list[str]:
    """Every metric that asks the model on every baseline, "metric, baseline"."""
    return [f"{one}, {baseline}" for one in asking() for baseline in BASELINES]


class Remembering:
    """A scorer that is asked about every set of patches once, for the random sets of all maps are the same."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._known: dict[bytes, float] = {}
        self.baseline = scorer.baseline

    def log_probs(self, keep: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """See `llava_eval.metric.Scorer`."""
        names = [one.tobytes() for one in keep]
        new = {name: number for number, name in enumerate(names) if name not in self._known}
        if new:
            found = self._scorer.log_probs(keep[[*new.values()]])
            self._known |= dict(zip(new, found.tolist(), strict=True))
        return np.array([self._known[name] for name in names])


def further_maps(
    contributions: npt.NDArray[Any], grid: npt.NDArray[np.float64], box: Sequence[float], rng: np.random.Generator
) -> dict[str, Any]:
    """Maps [row, col] that no method made: how much of each patch the box covers, and those of `WRONG`."""
    chance = rng.random(grid.shape[:2])
    return {TRUE_BOX: covered(grid, as_truth([box])), CHANCE: chance, SWAPPED: contributions.T}


def judge(
    maps: Mapping[str, npt.NDArray[Any]],
    grid: npt.NDArray[np.float64],
    box: Sequence[float],
    scorers: Sequence[Scorer],
    parameters: Mapping[str, Any],
) -> dict[str, dict[str, float]]:
    """Map -> "metric, baseline" -> value, and pointing; those of random orders and sets under `CONTROL`.

    Args:
        maps: [row, col] each, of one word.
        grid: [row, col, 4].
        box: of the object that the word is about.
        scorers: of that word, one for each baseline.
        parameters: of the metrics, where they have them.
    """
    found: dict[str, dict[str, float]] = {name: {} for name in (*maps, CONTROL)}
    for name, values in maps.items():
        found[name][POINTING] = evaluate(POINTING, values, grid, [box]).value
        for scorer in scorers:
            for one in asking():
                given = {key: value for key, value in parameters.items() if key in vars(metric(one))}
                score = evaluate(one, values, grid, [box], scorer, given)
                found[name][f"{one}, {scorer.baseline}"] = score.value
                found[CONTROL][f"{one}, {scorer.baseline}"] = float(score.control or 0.0)
    return found


def agreement(raw: Mapping[str, Any], names: Sequence[str], key: str) -> Interval:
    """Spearman over maps of a metric, made so that more is better, with pointing.

    Args:
        raw: "words" [scene], and per map the sums [scene] of every key.
        names: the maps that are ranked.
        key: "metric, baseline".
    """
    words = np.asarray(raw["words"], np.float64)
    sums, hits = (np.array([raw[name][one] for name in names], np.float64).T for one in (key, POINTING))
    drawn = drawn_scenes(len(words))[:_DRAWS]
    some = drawn[drawn @ words > 0]
    pairs = zip(some @ sums, some @ hits, strict=True)
    draws = [spearman(sign(key) * one, other) for one, other in pairs if np.ptp(one) and np.ptp(other)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(spearman(sign(key) * sums.sum(0), hits.sum(0)), float(low), float(high))


def mean(raw: Mapping[str, Any], name: str, key: str) -> Interval:
    """The mean of a metric of one map over all words."""
    return over_scenes(raw[name][key], raw["words"])


def better(raw: Mapping[str, Any], name: str, key: str) -> Interval:
    """How much better than random orders or sets a map is by a metric."""
    good, random = (raw[one][key] for one in ((name, CONTROL) if sign(key) > 0 else (CONTROL, name)))
    return over_scenes(good, raw["words"], less=random)


def place(raw: Mapping[str, Any], names: Sequence[str], key: str) -> int:
    """The place of the true box among maps by a metric, 1 for the first."""
    means = {name: sign(key) * mean(raw, name, key).value for name in (*names, TRUE_BOX)}
    return 1 + sum(means[name] > means[TRUE_BOX] for name in names)


def sign(key: str) -> int:
    """1 where more is better by a metric, -1 where less is."""
    return 1 if METRICS.find(key.partition(",")[0]).traits["higher_is_better"] else -1
