"""From what checks said of words and tokens to parts of them and areas under curves, with their intervals over scenes.

Flow: raw numbers of docs/benchmarks/checks.json -> `rate`, `area` -> `Figure`s with targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.known.sets import RIGHT, WRONG
from bench.known.tested import NATS
from bench.parts.intervals import Interval, over_scenes
from bench.parts.results import Figure
from llava_eval.statistics import auroc, aurocs, resampled_counts

Raw = Mapping[str, Mapping[str, Any]]
"""Kind of patches -> "scene", "map" (what it is), "alone" and "hidden" of each word; "tokens" -> "scene", "said" and
"really" of each."""
TOKENS, BOX, RANDOM = "tokens", "the true box", "random"
KEPT = 0.5
"""A word is kept while its probability is above."""
IMAGE_GOAL, BOX_GOAL, RANDOM_GOAL, MAPS_GOAL = 0.95, 0.95, 0.40, 0.80
IMAGE, MAPS = "tokens that need the image", "right maps from wrong ones"


def figures(raw: Raw) -> list[Figure]:
    """The check of the image, patches of known truth, those of real maps, and right maps against wrong ones."""
    views = views_of(raw)
    rows = [_area(IMAGE, *needing(raw), unit="AUROC", at_least=IMAGE_GOAL)]
    goals = {BOX: {"at_least": BOX_GOAL}, RANDOM: {"at_most": RANDOM_GOAL}}
    for kind in (BOX, RANDOM, *views):
        patches = "random patches" if kind == RANDOM else f"patches of {kind}"
        rows.append(_rate(f"words kept by {patches} alone", raw, kind, "alone", **goals.get(kind, {})))
        rows.append(_rate(f"words kept without {patches}", raw, kind, "hidden"))
    rows.append(_area(f"{MAPS}, by p with their patches alone", *maps(raw, views), unit="AUROC", at_least=MAPS_GOAL))
    rows += [_area(f"{view}: {MAPS}", *maps(raw, [view]), unit="AUROC") for view in views]
    rows += [_area(f"{MAPS}: {kind}", *maps(raw, views, [kind]), unit="AUROC") for kind in WRONG]
    return [*rows, _area(f"{MAPS}, by p with their patches hidden", *maps(raw, views, way="hidden"), unit="AUROC")]


def wrong_of(view: str) -> str:
    """The kind that is wrong maps of a view."""
    return f"{view}, wrong maps"


def views_of(raw: Raw) -> list[str]:
    """The views whose maps were tested."""
    return [name for name in raw if wrong_of(name) in raw]


def needing(raw: Raw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens: what the check said, whether they really need the image, their scenes."""
    said, really, scenes = (np.array(raw[TOKENS][name]) for name in ("said", "really", "scene"))
    return said, really > NATS, scenes


def maps(
    raw: Raw, views: Sequence[str], wrong: Sequence[str] = WRONG, way: str = "alone"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps of some views, right and wrong ones: a score, whether they are right, their scenes.

    Args:
        wrong: which kinds of wrong ones.
        way: the score is p with their patches "alone", or less p with them "hidden".
    """
    found = [
        (p if way == "alone" else -p, kind == RIGHT, scene)
        for name in [*views, *map(wrong_of, views)]
        for p, kind, scene in zip(raw[name][way], raw[name]["map"], raw[name]["scene"], strict=True)
        if kind in (RIGHT, *wrong)
    ]
    values, truth, scenes = (np.array(column) for column in zip(*found, strict=True))
    return values, truth, scenes


def kept(raw: Raw, kind: str, way: str) -> Interval:
    """How many words stay above `KEPT` with patches of this kind alone, or hidden."""
    names, places = np.unique(raw[kind]["scene"], return_inverse=True)
    hits = np.bincount(places, np.array(raw[kind][way]) > KEPT, len(names))
    return over_scenes([*map(float, hits)], [*map(int, np.bincount(places))])


def area(values: np.ndarray, truth: np.ndarray, scenes: np.ndarray) -> Interval:
    """An AUROC, its interval from scenes drawn anew.

    Raises:
        ValueError: all of one scene, or all true, or none.
    """
    whole, counts = auroc(values, truth), resampled_counts([*map(int, scenes)])
    if counts is None:
        raise ValueError("scenes: got one, expected 2 or more; one has no spread")
    some = counts[:, truth].any(1) & counts[:, ~truth].any(1)
    low, high = np.percentile(aurocs(values, truth, counts[some]), [2.5, 97.5])
    return Interval(whole, float(low), float(high))


def _rate(name: str, raw: Raw, kind: str, way: str, **goal: Any) -> Figure:
    return Figure.of(f"{name}; n = {len(raw[kind][way]):,}", kept(raw, kind, way), "of the words", **goal)


def _area(name: str, values: np.ndarray, truth: np.ndarray, scenes: np.ndarray, **rest: Any) -> Figure:
    return Figure.of(f"{name}; n = {truth.sum():,} and {(~truth).sum():,}", area(values, truth, scenes), **rest)
