"""One run of the model: facts and views, with the arrays decoded on demand.

Flow: `Facts` + `View`s -> `Record` -> `llava_wire.writing` -> bytes -> `llava_wire.container` -> `Record`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from llava_wire.choose import choose_maps, rows_of
from llava_wire.display import GROUP, display
from llava_wire.geometry import Geometry
from llava_wire.grids import Grid, pick
from llava_wire.schema import VERSION, Facts, Query, Token
from llava_wire.view import View


@dataclass(frozen=True, repr=False)
class Record:
    """One answered question with its attention.

    Args:
        facts: answer, tokens, prompt, images, grids, model, queries.
        views: by name, in the order of the request.
        run: timings and request id; not part of what two equal runs share.
        picture: the oriented, EXIF-free picture as (file name, bytes) when a client added it.
        alternatives: further answers of the same request (beams, samples), best or first drawn first; they carry
            neither alternatives, nor picture, nor run block of their own.
        version: of the file that it was read from; it is written as the latest all the same.
    """

    facts: Facts
    views: dict[str, View]
    run: dict[str, Any] = field(default_factory=dict)
    picture: tuple[str, bytes] | None = None
    alternatives: tuple[Record, ...] = ()
    version: int = field(default=VERSION, compare=False)

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The answer's tokens, the end of sequence included."""
        return self.facts.tokens

    @property
    def answer(self) -> str:
        """The answer's text without special tokens."""
        return self.facts.answer

    @property
    def queries(self) -> tuple[Query, ...]:
        """The captured rows, in the order of every view's query axis."""
        return self.facts.queries

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The patch grids, in the order of every map's patches."""
        return self.facts.grids

    @property
    def geometry(self) -> Geometry:
        """From the original picture to the only patch grid.

        Raises:
            ValueError: there are several grids; take `geometry_of`.
        """
        return self.geometry_of(None)

    def geometry_of(self, grid: str | int | None) -> Geometry:
        """From a grid's picture to the grid, by its name or number.

        Raises:
            ValueError: there is no such grid, or none was named and there are several.
        """
        chosen = self.grids[pick(self.grids, grid)]
        return Geometry.of(self.facts.images[chosen.image], chosen)

    def patch_rects(self) -> npt.NDArray[np.float64]:
        """The rectangle of each patch of all grids on its own picture, [patch, 4] as x0, y0, x1, y1 in px."""
        return np.concatenate(
            [self.geometry_of(number).patch_rects().reshape(-1, 4) for number in range(len(self.grids))]
        )

    def maps_float(self, grid: str | int | None = None) -> npt.NDArray[np.float32]:
        """The first view's maps, float32 [(query), (layer), (head) or (layer_head), row, col]; `grid` as in `map`."""
        return next(iter(self.views.values())).maps_float(grid)

    def map(
        self,
        token: int | None = None,
        *,
        view: str | None = None,
        layer: int | None = None,
        head: int | None = None,
        kind: Literal["answer", "prompt"] = "answer",
        grid: str | int | None = None,
    ) -> npt.NDArray[np.float32]:
        """One map, float32 [row, col]; of absolute attention its sum is the share of attention on the grid's patches.

        What the numbers are says `view(...).quantity`. Attention that is stored in 8 bits (the default) is right within
        1e-3 in its sum, 0.5 % in its peak and 2 % or 5e-4 in every block of 4 x 4 patches; `precision: "float32"` keeps
        all.

        Args:
            token: the answer token's number from 0; None for the mean over the answer's ordinary tokens.
            view: a view's name; the first view when absent.
            layer, head: 0-based, where the view keeps them apart; an axis that is not named is averaged.
            kind: "prompt" reads `token` as a position in the prompt's ids, for records with question rows.
            grid: a grid's name or number; may be left out where there is one.

        Raises:
            ValueError: the record holds no such view, row, layer, head or grid, or several grids and none was named.
        """
        chosen = self.view(view)
        maps, _ = choose_maps(chosen, layer, head, grid)
        return maps[rows_of(self.facts, chosen, token, kind)].mean(axis=0, dtype=np.float32)

    def overlay(self, token: int | None = None, **how: Any) -> Any:
        """One map on the picture as a Pillow image; `llava_viewer.notebook.overlay` tells the further arguments.

        Args:
            token: the answer token's number from 0; None for the one that a report opens on.

        Raises:
            ImportError: no package that draws is installed.
            ValueError: the record holds no such map.
        """
        found = display()
        if found is None:
            raise ImportError(
                f"overlay: got no package that draws, expected one with the entry point {GROUP!r}; "
                "install llava-gaze, which has one"
            )
        return found.overlay(self, token, **how)

    def _repr_html_(self) -> str | None:
        """The report, inline in a notebook; None, and so the plain `repr`, where no package that draws is installed."""
        found = display()
        return found.html(self) if found is not None else None

    def __repr__(self) -> str:
        shown = self.answer if len(self.answer) <= 60 else f"{self.answer[:59]}…"
        return (
            f"<Record of {self.facts.model.name}: {shown!r}, {len(self.tokens)} tokens, "
            f"views {', '.join(map(repr, self.views))}>"
        )

    def view(self, name: str | None = None) -> View:
        """The view of this name, or the first one.

        Raises:
            ValueError: the record holds no view of this name.
        """
        if name is None:
            return next(iter(self.views.values()))
        if name not in self.views:
            raise ValueError(f"view: got {name!r}, expected {list(self.views)}; name one of them")
        return self.views[name]

    def with_picture(self, name: str, data: bytes) -> Record:
        """The same record carrying the picture, so that one file renders and replays."""
        return replace(self, picture=(name, data))

    def sequence(self, index: int) -> Record:
        """One answer of a request that returned several, as a record of its own with picture and run block.

        Args:
            index: 0 for the first answer, i for `alternatives[i - 1]`.

        Raises:
            ValueError: there are not so many.
        """
        if not 0 <= index <= len(self.alternatives):
            raise ValueError(f"sequence: got {index}, expected 0 to {len(self.alternatives)}; the record holds no more")
        chosen = self.alternatives[index - 1] if index else self
        return replace(chosen, run=self.run, picture=self.picture, alternatives=())

    def without_run(self) -> Record:
        """The same record without timings and request id: equal runs encode to equal bytes."""
        return replace(self, run={})
