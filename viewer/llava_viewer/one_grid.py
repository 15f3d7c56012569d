"""A record of several grids as what pages and figures draw: one grid at a time, on its own picture.

Flow: `Record` -> `on_one_grid` (a record of one picture and one grid) for figures and tables, or `unfolded` (every view
once for each grid and composite) for a report. Where the quantity is a share, "image" is what lies on the grid, so that
a map still sums to it; what lies on other grids is what its shares lack to 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from llava_viewer.composite import composite_of, composites, on_composite
from llava_wire.grids import Grid, pick
from llava_wire.record import Record
from llava_wire.schema import SHARE_NAMES
from llava_wire.view import View

IMAGE = "the image"
"""What attention on patches is said to lie on, where all of them are shown."""


@dataclass(frozen=True, repr=False)
class OneGrid(Record):
    """One grid of a record of several; to be looked at, not to be written.

    Args:
        grid_name: the grid's name.
    """

    grid_name: str = ""


def on_one_grid(record: Record, grid: str | int | None = None) -> Record:
    """What a record has on one grid; the record itself where it has no other.

    Args:
        grid: the grid's name or number, also as text, or that of a composite; may be left out where there is one.

    Raises:
        ValueError: there is no such grid, or none was named and there are several.
    """
    if isinstance(grid, str) and grid in (found := composites(record)):
        return _on_composite(record, grid, found[grid])
    if isinstance(grid, str) and grid.isdecimal() and grid not in [one.name for one in record.grids]:
        grid = int(grid)
    number = pick(record.grids, grid)
    if len(record.grids) == 1:
        return record
    chosen, facts = record.grids[number], record.facts
    picture = record.pictures[chosen.image][1] if record.pictures else None
    return OneGrid(
        facts=replace(facts, images=(facts.images[chosen.image],), grids=(replace(chosen, image=0),)),
        views={name: _on_grid(view, number) for name, view in record.views.items()},
        run=record.run,
        picture=None if picture is None else ("picture.png", picture),
        alternatives=record.alternatives,
        texts=record.texts,
        version=record.version,
        grid_name=chosen.name,
    )


def _on_composite(record: Record, name: str, image: int) -> Record:
    grid, views = on_composite(record, name)
    facts = replace(record.facts, images=(record.facts.images[image],), grids=(grid,))
    picture = ("picture.png", record.pictures[image][1]) if record.pictures else None
    return OneGrid(
        facts=facts, views=views, run=record.run, picture=picture, alternatives=record.alternatives,
        version=record.version, grid_name=name,
    )  # fmt: skip


def place(record: Record) -> str:
    """What attention on the patches of a record, or of a part of one, is said to lie on: "the image", "this grid"."""
    return "this grid" if isinstance(record, OneGrid) else IMAGE


def shown_grids(record: Record) -> tuple[Grid, ...]:
    """What a report shows one at a time: the record's grids, and behind them its composites."""
    return (*record.grids, *(composite_of(record, image).grid for image in composites(record).values()))


def unfolded(record: Record) -> Record:
    """The record with each of its views once for each of `shown_grids`, named after both; itself where it has one."""
    if len(record.grids) == 1:
        return record
    views: dict[str, View] = {}
    parts = [(one.name, [_on_grid(view, number) for view in record.views.values()])
             for number, one in enumerate(record.grids)]  # fmt: skip
    parts += [(name, [*on_composite(record, name)[1].values()]) for name in composites(record)]
    for grid, shown in parts:
        for one in shown:
            name = f"{one.name} on {grid}"
            while name in views:
                name += "'"
            views[name] = replace(one, facts=replace(one.facts, name=name))
    return replace(record, views=views)


def _on_grid(view: View, number: int) -> View:
    """A view's maps on one grid."""
    grid = view.grids[number]
    shares = view.shares
    if shares is not None:
        shares = shares.copy()
        shares[..., SHARE_NAMES.index("image")] = view.maps_float(number).sum(axis=(-2, -1), dtype="float64")
    return replace(view.part(number), shares=shares, grids=(replace(grid, image=0),))
