"""What a metric is, the door by which it comes in, and the one way to ask it.

Flow: name, map, grid, truth -> `evaluate` (finds, loads, checks) -> `Metric.score` -> `Score`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from llava_doors.door import Door
from llava_eval.truth import MetricError, Truth, as_truth

METRICS = Door("metric", "llava_gaze.metrics", "llava_eval.metrics")
"""All metrics: the modules of `llava_eval.metrics`, and entry points of the group `llava_gaze.metrics`."""


TRAITS = ("higher_is_better", "needs_model")
"""What a declaration and a class say of a metric beside its name."""


@dataclass(frozen=True)
class Score:
    """What a metric says of one map.

    Args:
        value: the score.
        control: the same for patches in random order, where the metric has such a control.
        details: further numbers by name.
    """

    value: float
    control: float | None = None
    details: Mapping[str, float] = field(default_factory=dict)


class Scorer(Protocol):
    """A model that can be asked how probable a word stays when it sees only some of the patches."""

    @property
    def baseline(self) -> str:
        """What stands in the place of a hidden patch: "mean embedding", "grey", ..."""

    def log_probs(self, keep: np.ndarray) -> np.ndarray:
        """log p of the word, in nats, once for every set of patches.

        Args:
            keep: bool [set, patch]; patches in the map's order (row-major), True: shown, False: hidden.

        Returns:
            float64 [set].
        """


class Metric(Protocol):
    """One way to score a map. A class behind the door; its parameters are keyword arguments with defaults."""

    @property
    def name(self) -> str:
        """As it is declared."""

    @property
    def higher_is_better(self) -> bool:
        """Whether a better map gets a higher score."""

    @property
    def needs_model(self) -> bool:
        """Whether `score` asks the scorer."""

    def score(self, values: np.ndarray, grid: np.ndarray, truth: Truth, scorer: Scorer | None) -> Score | float:
        """Scores one map.

        Args:
            values: the map, float64 [row, col] or [patch], finite, in the quantity of its method.
            grid: float64 [row, col, 4] or [patch, 4]: (x0, y0, x1, y1) per patch in pixels of the original picture.
            truth: float64 [box, 4] in the same pixels, or bool [height, width].
            scorer: the model, for metrics that need it.
        """


def asked(scorer: Scorer | None) -> Scorer:
    """The scorer, for a metric that needs it.

    Raises:
        MetricError: there is none.
    """
    if scorer is None:
        raise MetricError("scorer: got none, expected one for a metric that needs the model; give it a model to ask")
    return scorer


def needs_truth(name: str) -> bool:
    """Whether a metric looks at the truth; one that only asks the model may say that it does not ("needs_truth")."""
    return bool(METRICS.find(name).traits.get("needs_truth", True))


def metric(name: str, parameters: Mapping[str, Any] | None = None) -> Metric:
    """The metric of a name, with its parameters set.

    Args:
        name: as `METRICS.known()` lists it.
        parameters: those that are not to be the default.

    Raises:
        DoorError: there is no such metric or parameter.
        MetricError: its class contradicts its declaration.
    """
    declared, made = METRICS.find(name), METRICS.load(name)
    if parameters:
        made = type(made)(**declared.parse(parameters))
    for trait, value in {"name": declared.name, **dict.fromkeys(TRAITS), **declared.traits}.items():
        own = getattr(made, trait, None)
        if value is None or own != value:
            raise MetricError(
                f"metric {name!r}: got {trait} {value!r} declared and {own!r} in its class, expected the same in both; "
                "correct the package"
            )
    found: Metric = made
    return found


def evaluate(
    name: str,
    values: np.ndarray,
    grid: np.ndarray,
    truth: Sequence[Sequence[float]] | np.ndarray,
    scorer: Scorer | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Score:
    """Scores one map by one metric.

    Args:
        name: of the metric.
        values: the map, any float [row, col] or [patch].
        grid: [row, col, 4] or [patch, 4]: (x0, y0, x1, y1) per patch in pixels of the original picture, as
            `record.geometry.patch_rects()` gives them.
        truth: boxes [box, 4] in the same pixels, or a mask, bool [height, width].
        scorer: the model, for metrics that need it.
        parameters: of the metric, those that are not to be the default.

    Raises:
        DoorError: there is no such metric or parameter.
        MetricError: shapes that do not fit, numbers that are not finite, a missing scorer, an impossible truth, or a
            score that is not finite.
    """
    chosen = metric(name, parameters)
    if chosen.needs_model:
        asked(scorer)
    given, places = _fitting(np.asarray(values, np.float64), np.asarray(grid, np.float64))
    return _scored(chosen, given, places, as_truth(truth), scorer)


def scores_of(
    metrics: Mapping[str, Metric], maps: np.ndarray, grid: np.ndarray, truth: Sequence[Sequence[float]] | np.ndarray
) -> dict[str, np.ndarray]:
    """Scores many maps of one image against one truth, by metrics that ask no model.

    Args:
        metrics: by name.
        maps: any float [map, row, col] or [map, patch].
        grid, truth: as `evaluate` takes them.

    Returns:
        by name, float64 [map]; NaN where the metric cannot score the map, such as a box against several ones.

    Raises:
        MetricError: shapes that do not fit, or numbers that are not finite.
    """
    known, places = as_truth(truth), np.asarray(grid, np.float64)
    given = [_fitting(one, places)[0] for one in np.asarray(maps, np.float64)]
    return {name: np.array([_or_nan(chosen, one, places, known) for one in given]) for name, chosen in metrics.items()}


def _or_nan(chosen: Metric, values: np.ndarray, grid: np.ndarray, truth: Truth) -> float:
    try:
        return _scored(chosen, values, grid, truth, None).value
    except MetricError:
        return math.nan


def _fitting(given: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A map and its grid, checked."""
    if given.ndim not in (1, 2) or places.shape != (*given.shape, 4) or not given.size:
        raise MetricError(
            f"map: got {list(given.shape)} with a grid of {list(places.shape)}, expected [row, col] with "
            "[row, col, 4], or [patch] with [patch, 4]"
        )
    if not np.isfinite(given).all():
        raise MetricError("map: got NaN or infinity, expected finite numbers; leave out words without a map")
    if not (np.isfinite(places).all() and (places[..., :2] < places[..., 2:]).all()):
        raise MetricError("grid: got a patch without area, expected x0 < x1 and y0 < y1 in pixels")
    return given, places


def _scored(chosen: Metric, values: np.ndarray, grid: np.ndarray, truth: Truth, scorer: Scorer | None) -> Score:
    found = chosen.score(values, grid, truth, scorer)
    score = found if isinstance(found, Score) else Score(float(found))
    if not np.isfinite(score.value):
        raise MetricError(f"metric {chosen.name!r}: got {score.value}, expected a finite number; leave this word out")
    return score
