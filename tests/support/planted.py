"""A record with a sink: one patch that every word reads, and that one word reads most."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llava_wire.record import Record
from support.synthetic import make_record

SINK, SUNK = 20, 4
"""The patch, and the word."""


def make_sunk(**more: Any) -> Record:
    """The record of `make_record` with a sink; each map keeps its sum."""
    made, views = make_record(**more), {}
    for name, view in made.views.items():
        maps = view.patches_float().copy()
        whole, peak = maps.sum(-1, keepdims=True), maps.max(-1)
        maps[..., SINK] = 0.6 * peak
        if "query" in view.axes:
            maps[SUNK, ..., SINK] = 3 * peak[SUNK]
        views[name] = type(view).of(view.facts, maps * (whole / maps.sum(-1, keepdims=True)), view.shares, made.grids)
    return replace(made, views=views)
