"""A phrase, several tokens of the answer, as one item: the map of `record.phrase`, the same that a report shows.

Flow: `Shown` + token numbers -> their items -> one `Item` without a row, for figures, sheets and tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from llava_viewer.export.shown import Item, Shown
from llava_viewer.look.view_model import Row
from llava_wire.choose import joined_maps


def phrase(shown: Shown, tokens: Sequence[int], how: Literal["mean", "max"] = "mean") -> Item:
    """The item of several tokens; its shares are their mean, also where its map is of the largest values.

    Args:
        shown: a view with a map for each token.
        tokens: their numbers from 0; each once, in the answer's order.
        how: the mean of their maps, or "max": at each patch the value of the largest size.

    Raises:
        ValueError: fewer than two, one twice or out of order, one without a row, or a view of the whole answer.
    """
    if len(tokens) < 2 or list(tokens) != sorted(set(tokens)):
        given = ",".join(map(str, tokens)) or "none"
        raise ValueError(
            f"phrase: got {given:.80}, expected two or more tokens in order, each once; name them as 4,5 or 4-6"
        )
    if "query" not in shown.view.axes:
        raise ValueError(
            f"phrase: got view {shown.view.name!r}, one map for the whole answer, expected one with a map for each "
            "token; name another --view"
        )
    items = [shown.item(token) for token in tokens]
    first = items[0]
    heat = joined_maps(np.stack([item.heat for item in items]), how)
    shares = [item.shares for item in items if item.shares is not None]
    parts = [item.parts for item in items if item.parts is not None]
    named = "_".join(map(str, tokens)) if len(tokens) <= 8 else f"{tokens[0]}_to_{tokens[-1]}_of_{len(tokens)}"
    made = replace(
        first,
        name=f"phrase_{named}{'_max' if how == 'max' else ''}",
        text=_text([item.row for item in items if item.row], tokens),
        row=None,
        heat=heat,
        shares=joined_maps(np.stack(shares)) if shares else None,
        parts=joined_maps(np.stack(parts)) if parts else None,
        tokens=tuple(tokens),
        how=how,
    )
    return made if shown.look.scale == "shared" else replace(made, maximum=made.peak)


def _text(rows: Sequence[Row], tokens: Sequence[int]) -> str:
    """The tokens' texts as the answer has them; what lies between others stands as dots."""
    text = ""
    for number, row in enumerate(rows):
        apart = number > 0 and tokens[number] != tokens[number - 1] + 1
        gap = " … " if apart else " " if number and row.spaced else ""
        text += gap + row.text
    return text
