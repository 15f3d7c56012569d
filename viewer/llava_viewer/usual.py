"""What the words of an answer have in common: its sinks, and what its other words have where a map is brightest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from llava_doors.parts.sinks import sink_patches
from llava_wire.choose import choose_patches, ordinary_tokens
from llava_wire.record import Record
from llava_wire.schema import Facts
from llava_wire.view import View

OWN_TIMES = 2.0
"""How many times what the answer's other words have at its brightest patch makes a map particular."""
LEAST_WORDS = 3
"""From how many ordinary words on there is a usual map, as for the method `contrast`."""


def ordinary_answer_rows(facts: Facts) -> list[int]:
    """The places of the answer's ordinary words in the table of queries; no others stand in for them."""
    taken = set(ordinary_tokens(facts.tokens))
    return [i for i, query in enumerate(facts.queries) if query.kind == "answer" and query.token in taken]


def sinks_of(record: Record, view: View) -> npt.NDArray[np.bool_] | None:
    """The sinks of a view over all grids, [patch]: those of its mean over layers and heads.

    None where the rule says nothing: of other quantities than shares, of one map for a whole answer, of few words.
    """
    if view.shares is None or "query" not in view.axes:
        return None
    return sink_patches(choose_patches(view)[ordinary_answer_rows(record.facts)])


def others_times(values: npt.NDArray[np.float32], counted: Sequence[int]) -> list[float | None]:
    """How many times what the answer's other words have there, as part of their map, each map has at its brightest.

    Args:
        values: [row, row of patches, col], 0 or more.
        counted: the rows of the answer's ordinary words; with fewer than 3, and for an empty map, nothing is told.
    """
    flat = values.reshape(len(values), -1).astype(np.float64)
    total, ordinary = flat[[*counted]].sum(axis=0), set(counted)
    found: list[float | None] = []
    for row, own in enumerate(flat):
        others = total - own if row in ordinary else total
        if len(ordinary) < LEAST_WORDS or own.sum() <= 0 or others.sum() <= 0:
            found.append(None)
            continue
        peak = int(own.argmax())
        there = max(0.0, float(others[peak])) / others.sum()
        found.append(float(own[peak] / own.sum() / there) if there > 0 else float("inf"))
    return found


def verdict_of(
    values: npt.NDArray[np.float32],
    image_share: float,
    times: float | None,
    sinks: npt.NDArray[np.bool_] | None,
    low: float,
    flat: float,
) -> tuple[str, float, float | None]:
    """What a map is worth: a name, the number that it goes by, and the part of the map on sinks.

    Args:
        values: [row, col], as the page reads them back; image_share: what they add up to.
        times: of `others_times`; sinks: [row, col].
        low, flat: below which share a map is weak, below how many times an even share it is even.
    """
    peak, even = float(values.max(initial=0.0)), image_share / values.size
    held = float(values[sinks].sum() / values.sum()) if sinks is not None and sinks.any() and values.sum() > 0 else None
    if image_share < low:
        return "weak", image_share, held
    if peak < flat * even:
        return "even", peak / even, held
    if sinks is not None and sinks.flat[int(values.argmax())]:
        return "sink", 0.0, held
    if times is None:
        return "", 0.0, held
    return "particular" if times >= OWN_TIMES else "usual", min(times, 999.0), held
