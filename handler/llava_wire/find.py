"""What looked at a part of an image: the words and the heads of a record, ranked by what they spent there.

Flow: a box in px -> how much of every patch it covers -> sums over the maps -> `Inside`s, most first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llava_wire.choose import choose_maps, kept_cells, ordinary_tokens, split_view
from llava_wire.geometry import Geometry
from llava_wire.schema import Facts
from llava_wire.view import View

Box = Sequence[float]
"""x0, y0, x1, y1 in px of the image after EXIF rotation."""


@dataclass(frozen=True)
class Inside:
    """What one word, or one head at its best word, spent inside a box.

    Args:
        token: the answer token's number.
        text: what that token adds to the answer.
        inside: the sum of its map inside, in the view's quantity; of attention, the share of all that the row read.
        of_image: the part of its map on this image that lies inside, 0 to 1; of signed maps that of the positive part.
        times_even: `of_image` against a map that is even over the image; 1 says nothing about the box.
        layer, head: 0-based, of a head.
    """

    token: int
    text: str
    inside: float
    of_image: float
    times_even: float
    layer: int | None = None
    head: int | None = None


def words_at(
    facts: Facts, view: View, box: Box, *, layer: int | None = None, head: int | None = None, image: int = 0
) -> list[Inside]:
    """The answer's ordinary words by what they spent inside a box, most first.

    Args:
        facts, view: of the record, with a map for each word.
        box: the part of the image.
        layer, head: which maps, as `choose_maps` takes them.
        image: the image's number, of several.

    Raises:
        ValueError: a box outside the image, or a view without maps of single words, as `choose_maps`.
    """
    if "query" not in view.axes:
        raise ValueError(f"view: got {view.name!r}, a mean over the answer, expected one with a map for each word")
    covers = _covers(facts, box, image)
    rows = _rows(facts)
    maps = [choose_maps(view, layer, head, grid)[0][rows] for grid in covers]  # per grid [word, row, col]
    sums = _sums(maps, [*covers.values()])
    tokens = [facts.queries[row].token for row in rows]
    found = [_inside(facts, token, *one) for token, one in zip(tokens, zip(*sums, strict=True), strict=True)]
    return sorted(found, key=lambda one: (-one.inside, one.token))


def heads_at(facts: Facts, view: View, box: Box, *, token: int | None = None, image: int = 0) -> list[Inside]:
    """The heads of a view by what they spent inside a box times how much of their map lies there, most first.

    Args:
        facts, view: of the record; the view as `view_of_heads` gives it.
        box: the part of the image.
        token: one answer token; None ranks each head by its best ordinary word.
        image: the image's number, of several.

    Raises:
        ValueError: a box outside the image, or a token without a map.
    """
    covers = _covers(facts, box, image)
    best: list[tuple[float, Inside]] = []
    for row in _rows(facts, token):  # one at a time: all heads of a long answer at once may be large
        maps = [split_view(view.at(row), grid)[0][0] for grid in covers]  # per grid [slot, row, col]
        for slot, one in enumerate(zip(*_sums(maps, [*covers.values()]), strict=True)):
            layer, head = kept_cells(view)[slot]
            found = _inside(facts, facts.queries[row].token, *one, layer=layer, head=head)
            score = found.inside * found.of_image
            if slot == len(best):
                best.append((score, found))
            elif score > best[slot][0]:
                best[slot] = score, found
    return [found for _, found in sorted(best, key=lambda one: (-one[0], one[1].layer, one[1].head))]


def view_of_heads(views: Mapping[str, View], name: str | None = None) -> View:
    """The view of this name, or the first that keeps words, layers and heads apart.

    Raises:
        ValueError: it does not, or none does.
    """
    fitting = {
        one.name: one
        for one in views.values()
        if "query" in one.axes and ("layer_head" in one.axes or {"layer", "head"} <= {*one.axes})
    }
    if not fitting or (name is not None and name not in fitting):
        raise ValueError(
            f"view: got {name or 'none'}, expected one that keeps words, layers and heads apart "
            f'({[*fitting] or "none here"}); ask for reduction "none", or name heads as pairs; '
            "llava-viewer replay does so for a record that is there"
        )
    return next(iter(fitting.values())) if name is None else fitting[name]


def _covers(facts: Facts, box: Box, image: int) -> dict[int, npt.NDArray[np.float64]]:
    """Grid -> [row, col]: how much of every patch of the image lies in the box, 0 to 1.

    Raises:
        ValueError: the box is none, or shows nothing that the model saw.
    """
    if not 0 <= image < len(facts.images):
        raise ValueError(f"image: got {image}, expected 0 to {len(facts.images) - 1}; the record has no more")
    asked = facts.images[image]
    expected = f"x0,y0,x1,y1 in px with x0 < x1 <= {asked.width_px} and y0 < y1 <= {asked.height_px}, none below 0"
    if len(box) != 4 or not all(map(math.isfinite, box)):
        raise ValueError(f"box: got {list(box)}, expected {expected}")
    x0, y0, x1, y1 = map(float, box)
    if not (0 <= x0 < x1 <= asked.width_px and 0 <= y0 < y1 <= asked.height_px):
        raise ValueError(f"box: got {x0:g},{y0:g},{x1:g},{y1:g}, expected {expected}")
    covers = {}
    for number, grid in enumerate(facts.grids):
        if grid.image == image:
            rects = Geometry.of(asked, grid).patch_rects()  # [row, col, 4]
            across = _overlap(rects[0, :, 0], rects[0, :, 2], x0, x1)  # [col]
            down = _overlap(rects[:, 0, 1], rects[:, 0, 3], y0, y1)  # [row]
            covers[number] = down[:, None] * across
    if not any(cover.any() for cover in covers.values()):
        raise ValueError(
            f"box: got {x0:g},{y0:g},{x1:g},{y1:g}, expected a part that the model saw; its crop left it out"
        )
    return covers


def _overlap(
    low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], start: float, end: float
) -> npt.NDArray[np.float64]:
    """How much of each interval lies between two ends, 0 to 1."""
    return (np.minimum(high, end) - np.maximum(low, start)).clip(min=0) / (high - low)


def _sums(
    maps: Sequence[npt.NDArray[np.float32]], covers: Sequence[npt.NDArray[np.float64]]
) -> tuple[list[float], list[float], list[float]]:
    """For maps [n, row, col] of each grid: the sum inside, the positive part's part inside, and that against even."""
    inside = sum((one * cover).sum((1, 2)) for one, cover in zip(maps, covers, strict=True))
    positive = sum((one.clip(min=0) * cover).sum((1, 2)) for one, cover in zip(maps, covers, strict=True))
    whole = sum(one.clip(min=0).sum((1, 2), dtype=np.float64) for one in maps)
    even = sum(cover.sum() for cover in covers) / sum(cover.size for cover in covers)
    part = np.divide(positive, whole, out=np.zeros_like(whole), where=whole > 0)
    return np.asarray(inside).tolist(), part.tolist(), (part / even).tolist()


def _inside(facts: Facts, token: int, inside: float, of_image: float, times_even: float, **cell: int | None) -> Inside:
    return Inside(token, facts.tokens[token].text, inside, of_image, times_even, **cell)


def _rows(facts: Facts, token: int | None = None) -> list[int]:
    """The rows of the answer's ordinary words, or of one token.

    Raises:
        ValueError: there is none.
    """
    wanted = set(ordinary_tokens(facts.tokens)) if token is None else {token}
    rows = [i for i, query in enumerate(facts.queries) if query.kind == "answer" and query.token in wanted]
    if not rows:
        given = "a record without maps of the answer's words" if token is None else token
        raise ValueError(f"token: got {given}, expected a word with a map; ask for its step, or name another")
    return rows
