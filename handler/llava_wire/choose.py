"""One map out of many: a view's axes, a layer, a head and a token -> arrays without the axes that were chosen.

Flow: `View` -> `choose_maps` (layers and heads gone, means where none was named) -> `rows_of` (one token's row, or the
rows of a mean). `ordinary_tokens` alone decides which tokens of an answer count, `ordinary_rows` what a mean over an
answer takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from llava_wire.schema import Facts, Query, Token
from llava_wire.view import View


def choose_maps(
    view: View, layer: int | None = None, head: int | None = None, grid: str | int | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """A view's maps and shares for one layer and head; an axis that is kept apart and not named is averaged.

    Args:
        layer, head: 0-based numbers as the view's facts name them, not positions in the array.
        grid: as `View.maps_float`.

    Returns:
        maps [query, row, col] and the split of their rows [query, name] (`View.split`; None where the quantity is no
        share), float32; one row where the view has no query axis.

    Raises:
        ValueError: the view does not keep this layer or head apart, or a grid must be named.
    """
    folded, shares = split_view(view, grid)
    slots = chosen_slots(view, layer, head)
    if len(slots) < folded.shape[1]:
        folded, shares = folded[:, slots], None if shares is None else shares[:, slots]
    return folded.mean(axis=1, dtype=np.float32), None if shares is None else shares.mean(axis=1, dtype=np.float32)


def choose_parts(view: View, layer: int | None = None, head: int | None = None) -> npt.NDArray[np.float32] | None:
    """A view's parts in the same way, [query, part] float32; None where its totals do not split.

    Raises:
        ValueError: as `choose_maps`.
    """
    if view.parts is None:
        return None
    rows = view.lead[0] if "query" in view.axes else 1
    chosen = view.parts.reshape(rows, -1, view.parts.shape[-1])[:, chosen_slots(view, layer, head)]
    return np.asarray(chosen.mean(axis=1, dtype=np.float32))


def choose_patches(view: View) -> npt.NDArray[np.float32]:
    """A view's maps over all grids, [query, patch] float32, means over layers and heads that are kept apart.

    One row where the view has no query axis.
    """
    maps = view.patches_float()
    rows = view.lead[0] if "query" in view.axes else 1
    return np.asarray(maps.reshape(rows, -1, maps.shape[-1]).mean(axis=1, dtype=np.float32))


def split_view(
    view: View, grid: str | int | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """A view's maps with its axes folded [query or 1, slot, row, col], and how rows split [query or 1, slot, name].

    The second is `View.split`, None where the quantity is no share.

    Raises:
        ValueError: as `View.maps_float`.
    """
    maps = view.maps_float(grid)
    rows = view.lead[0] if "query" in view.axes else 1
    slots = math.prod(view.lead[1:] if "query" in view.axes else view.lead)
    split = view.split()
    shares = None if split is None else split.reshape(rows, slots, split.shape[-1])
    return maps.reshape(rows, slots, *maps.shape[-2:]), shares


def chosen_slots(view: View, layer: int | None = None, head: int | None = None) -> list[int]:
    """Positions of the matching maps in the view's folded layer and head axes; all of them when none is named.

    Raises:
        ValueError: the view does not keep this layer or head apart.
    """
    pairs = kept_cells(view)
    for name, wanted, kept in (("layer", layer, [pair[0] for pair in pairs]), ("head", head, [p[1] for p in pairs])):
        if wanted is not None and wanted not in kept:
            apart = sorted({number for number in kept if number is not None})
            raise ValueError(
                f"{name}: got {wanted}, expected {apart or 'none'} in view {view.name!r}; "
                f"ask for a view that keeps this {name} apart"
            )
    slots = [i for i, (one, other) in enumerate(pairs) if layer in (None, one) and head in (None, other)]
    if not slots:
        raise ValueError(f"layer, head: got {layer}, {head}, expected {pairs} in view {view.name!r}")
    return slots


def kept_cells(view: View) -> list[tuple[int | None, int | None]]:
    """The (layer, head) of each map of a row, None for what the view does not keep apart."""
    if "layer_head" in view.axes:
        return [*view.facts.pairs]
    layers: Sequence[int | None] = view.facts.layers if "layer" in view.axes else [None]
    heads: Sequence[int | None] = view.facts.heads if "head" in view.axes else [None]
    return [(layer, head) for layer in layers for head in heads]


def rows_of(facts: Facts, view: View, token: int | None, kind: Literal["answer", "prompt"] = "answer") -> list[int]:
    """The rows of a view's query axis that show one token, or the whole answer.

    Args:
        token: the answer token (kind "answer") or the position in the prompt's ids (kind "prompt"); None for the
            mean over the answer: `ordinary_rows`.

    Raises:
        ValueError: the record holds no such row.
    """
    if "query" not in view.axes:
        if token is not None:
            raise ValueError(
                f"token: got {token}, expected none in view {view.name!r}; it holds one map for the whole answer"
            )
        return [0]
    queries = facts.queries
    if token is not None:
        found = [i for i, query in enumerate(queries) if query.kind == kind and query.token == token]
        if not found:
            held = sorted(query.token for query in queries if query.kind == kind)
            allowed = f"{held[0]} to {held[-1]}" if held else "none"
            raise ValueError(
                f"token: got {token}, expected {allowed} ({len(held)} {kind} tokens were recorded); "
                "ask for more steps, or for question rows"
            )
        return found
    return ordinary_rows(queries, facts.tokens)


def ordinary_tokens(tokens: Sequence[Token]) -> list[int]:
    """The numbers of an answer's ordinary tokens: all but special ones, such as the end of the sequence."""
    return [index for index, token in enumerate(tokens) if not token.special]


def ordinary_rows(queries: Sequence[Query], tokens: Sequence[Token]) -> list[int]:
    """The rows that a mean over an answer takes, as places in the table of queries.

    Those of its ordinary tokens; of an answer without any (the end of sequence alone) all answer rows; where no answer
    row was recorded, all rows (the question's).
    """
    answered = [place for place, query in enumerate(queries) if query.kind == "answer"]
    taken = set(ordinary_tokens(tokens))
    ordinary = [place for place in answered if queries[place].token in taken]
    return ordinary or answered or list(range(len(queries)))


def mean_image_share(facts: Facts, view: View) -> float | None:
    """The image share of a view: the mean over its layers and heads and over `ordinary_rows`; 0 for a view of none.

    None where the view's quantity is no share.
    """
    return mean_share(facts, view, "image")


def mean_share(facts: Facts, view: View, name: str) -> float | None:
    """The same of another of `View.split_names`; None where the view does not tell it apart."""
    split = view.split()
    if split is None or name not in view.split_names:
        return None
    part = split[..., view.split_names.index(name)]
    if "query" in view.axes:
        part = part[ordinary_rows(facts.queries, facts.tokens)]
    return float(part.mean(dtype=np.float64)) if part.size else 0.0


def joined_maps(maps: npt.NDArray[np.float32], how: Literal["mean", "max"] = "mean") -> npt.NDArray[np.float32]:
    """Several tokens' maps as the map of their phrase.

    Args:
        maps: [token, ...] float32, one or more.
        how: their mean, or "max": at each patch the value of the largest size, the first of equal ones.
    """
    if how == "mean":
        return np.asarray(maps.mean(axis=0, dtype=np.float32))
    return np.asarray(np.take_along_axis(maps, np.abs(maps).argmax(axis=0)[None], axis=0)[0])
