"""Whether memory and open files stay flat over a soak.

Flow: samples of `crowding.processes.Census` -> levels early and late, slope -> `growth`: one line for each that grows.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from stress.crowding.processes import KINDS

_LEAST = 8
"""Fewer samples than this say nothing."""
LEAST_MINUTES = 20.0
_ALLOWED: dict[str, tuple[float, float]] = {
    "java_mb": (0.15, 64.0), "front_mb": (0.10, 24.0), "worker_mb": (0.10, 32.0),
    "java_files": (0.0, 40.0), "front_files": (0.0, 40.0), "worker_files": (0.0, 16.0),
}  # fmt: skip
"""How much later than the warm-up may be above it: a share of the level, and MB or files besides."""


def levels(samples: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """For memory and files of each kind: the median of the second and of the last quarter, and the slope an hour.

    The first quarter is warm-up. A worker that loads, or is gone, makes single samples low; medians and the median of
    slopes (Theil and Sen) do not mind.
    """
    figures = {}
    for name in (f"{kind}_{what}" for kind in KINDS for what in ("mb", "files")):
        points = [(sample["at_s"], sample[name]) for sample in samples if sample.get(name)]
        if len(points) < _LEAST:
            continue
        quarter = len(points) // 4
        kept = points[quarter:]
        slopes = [
            (late - early) / (after_s - before_s) * 3600
            for number, (before_s, early) in enumerate(kept)
            for after_s, late in kept[number + 1 :]
            if after_s > before_s
        ]
        figures[name] = {
            "early": statistics.median(value for _, value in points[quarter : 2 * quarter]),
            "late": statistics.median(value for _, value in points[-quarter:]),
            "slope_per_hour": round(statistics.median(slopes), 2) if slopes else 0.0,
        }
    return figures


def growth(figures: Mapping[str, Mapping[str, Any]], minutes: float) -> list[str]:
    """What grew by more than it may, one line each; nothing in fewer minutes than memory takes to warm up.

    Args:
        figures: of `levels`.
        minutes: how long the samples were taken.
    """
    found: list[str] = []
    if minutes < LEAST_MINUTES:
        return found
    for name, figure in figures.items():
        share, besides = _ALLOWED[name]
        most = figure["early"] * (1 + share) + besides
        if figure["late"] > most:
            found.append(
                f"{name}: got {figure['late']:g} at the end after {figure['early']:g} early on "
                f"({figure['slope_per_hour']:g} an hour), expected {most:.0f}"
            )
    return found
