"""Localization: heads that give the image much of their attention, in few connected places (Kang et al., CVPR 2025).

Flow: per word and head the sum over the image and the spatial entropy of the map -> heads whose mean sum lies at or
above the elbow of the sorted sums -> per word the ten of lowest entropy among them, ties shared -> how often a head is
chosen.

Source: "Your Large Vision-Language Model Only Needs A Few Attention Heads For Visual Grounding", arXiv 2503.06287.
There the row is the question's last token; here it is whichever row the maps are of. Three things differ. No layers
are left out (the paper leaves out the first two, and llava-shapes has a pointing head there). Ties are shared: on a
small grid a quarter of the heads have one component and entropy 0, and their order would decide. And of fewer than 20
heads at or above the elbow half are chosen, where ten would be nearly all. The paper also drops maps whose bottom row
is lit as a whole; that changed nothing on llava-shapes, and is left out.
"""

from __future__ import annotations

import math

import numpy as np

from llava_doors.door import Declaration, Parameter
from llava_eval.criterion import WordMaps

AREA, MASS = "area", "mass"
_TIE = 1e-9
_AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
DECLARATION = Declaration(
    "localization",
    "How often a head that reads much of the image is among those of lowest spatial entropy (Kang et al. 2025).",
    "llava_eval.criteria.localization:Localization",
    (
        Parameter("lowest", "integer", 10, "How many heads are chosen for each word.", above=0),
        Parameter(
            "weigh",
            "text",
            AREA,
            "What a component counts: its patches, as in the paper, or its attention above the mean, as in its code.",
            choices=(AREA, MASS),
        ),
    ),
    traits={"needs_boxes": False, "needs_contributions": False},
)


class Localization:
    """The two criteria of Kang et al. on whichever rows the maps are of."""

    def __init__(self, lowest: int = 10, weigh: str = AREA) -> None:
        self.lowest, self.weigh = lowest, weigh

    def measure(self, word: WordMaps) -> np.ndarray | None:
        """[2, layer, head]: the sum over the image, and the spatial entropy in nats (infinite for a flat map)."""
        return np.stack([word.maps.sum(-1), spatial_entropy(word.maps, word.grids, self.weigh)])

    def scores(self, measured: np.ndarray) -> np.ndarray:
        """[word, layer, head]: 1 where the head is chosen for the word, a part of it where it ties for the last."""
        words, _, *cells = measured.shape
        sums, entropy = measured.reshape(words, 2, -1).swapaxes(0, 1)  # [word, cell] each
        kept = above_elbow(sums.mean(0))
        count = min(self.lowest, math.ceil(kept.sum() / 2))
        given = [lowest_shared(np.where(kept, row, np.inf), count) for row in entropy]
        return np.reshape(given, (words, *cells))


def above_elbow(sums: np.ndarray) -> np.ndarray:
    """Which heads lie at or above the elbow of their sorted sums: the point farthest below the chord.

    Args:
        sums: [cell], mean attention to the image.

    Returns:
        [cell] bool; all where the sums are equal or the curve lies above its chord everywhere.
    """
    ordered = np.sort(sums)
    spread = ordered[-1] - ordered[0]
    if not spread > 0:
        return np.ones(len(sums), bool)
    below = np.linspace(0, 1, len(ordered)) - (ordered - ordered[0]) / spread
    return np.asarray(sums >= ordered[below.argmax()])


def lowest_shared(values: np.ndarray, count: int) -> np.ndarray:
    """1 for the `count` lowest values; those that tie for the last places share what is left of them.

    Args:
        values: [cell]; infinite ones are never chosen.
        count: how many, 1 or more.

    Returns:
        [cell] float64, sums to `count`, or to the number of finite values where there are fewer.
    """
    lowest = np.sort(values)[:count]
    lowest = lowest[np.isfinite(lowest)]
    given = np.zeros(len(values))
    if len(lowest):
        sure, tied = values < lowest[-1] - _TIE, np.abs(values - lowest[-1]) <= _TIE
        given[sure] = 1.0
        given[tied] = (len(lowest) - sure.sum()) / tied.sum()
    return given


def spatial_entropy(maps: np.ndarray, grids: tuple[tuple[int, int], ...], weigh: str = AREA) -> np.ndarray:
    """The entropy of the connected components (of 8 neighbours) of the patches above a map's mean.

    Args:
        maps: [..., patch].
        grids: rows and columns of each grid; nothing is connected across grids.
        weigh: what a component counts, "area" or "mass".

    Returns:
        [...] nats; 0 for one component, infinite for a flat map, which has none.
    """
    flat = maps.reshape(-1, maps.shape[-1]).astype(np.float64)
    above = flat - flat.mean(-1, keepdims=True)
    lit = above > 1e-12 * np.abs(flat).max(-1, keepdims=True)  # a flat map's rounding is no component
    weights = lit * (above if weigh == MASS else 1.0)  # [map, patch]
    names = np.empty(flat.shape, np.int64)
    start = 0
    for rows, cols in grids:
        part = slice(start, start + rows * cols)
        names[:, part] = _components(lit[:, part].reshape(-1, rows, cols)) + start
        start = part.stop
    width = flat.shape[1]
    places = np.arange(len(flat))[:, None] * width + names
    sizes = np.bincount(places[lit], weights[lit], len(flat) * width).reshape(len(flat), width)
    total = sizes.sum(1, keepdims=True)
    share = np.divide(sizes, total, out=np.zeros_like(sizes), where=total > 0)
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(1)
    return np.where(total[:, 0] > 0, entropy, np.inf).reshape(maps.shape[:-1])


def _components(lit: np.ndarray) -> np.ndarray:
    """[map, patch]: for every lit patch the highest number of a patch of its component; others mean nothing."""
    count, rows, cols = lit.shape
    names = np.where(lit, np.arange(rows * cols).reshape(rows, cols), -1)
    while True:
        wide = np.pad(names, ((0, 0), (1, 1), (1, 1)), constant_values=-1)
        highest = names
        for down, right in _AROUND:
            highest = np.maximum(highest, wide[:, 1 + down : 1 + down + rows, 1 + right : 1 + right + cols])
        highest = np.where(lit, highest, -1)
        if np.array_equal(highest, names):
            return names.reshape(count, -1)
        names = highest
