"""One run of the model: facts and views, with the arrays decoded on demand.

Flow: `Facts` + `View`s -> `Record` -> `llava_wire.writing` -> bytes -> `llava_wire.container` -> `Record`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from llava_wire import find
from llava_wire.choose import choose_maps, joined_maps, rows_of
from llava_wire.geometry import Geometry
from llava_wire.grids import Grid, pick
from llava_wire.schema import VERSION, Facts, Query, Token
from llava_wire.system.display import GROUP, display
from llava_wire.view import TextView, View


@dataclass(frozen=True, repr=False)
class Record:
    """One answered question with its attention.

    Args:
        facts: answer, tokens, prompt, images, grids, model, queries.
        views: by name, in the order of the request.
        run: timings and request id; not part of what two equal runs share.
        picture: the oriented, EXIF-free picture as (file name, bytes) when a client added it; of several the first.
        further_pictures: the others of several, in the order of `facts.images`; a record carries all or none.
        alternatives: further answers of the same request (beams, samples), best or first drawn first; they carry
            neither alternatives, nor picture, nor run block of their own.
        texts: views of text, by name: which words each row read.
        version: of the file that it was read from; it is written as the latest all the same.
    """

    facts: Facts
    views: dict[str, View]
    run: dict[str, Any] = field(default_factory=dict)
    picture: tuple[str, bytes] | None = None
    further_pictures: tuple[tuple[str, bytes], ...] = ()
    alternatives: tuple[Record, ...] = ()
    texts: dict[str, TextView] = field(default_factory=dict)
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
    def pictures(self) -> tuple[tuple[str, bytes], ...]:
        """All pictures that the record carries, in the order of `facts.images`; none, or one for each."""
        return () if self.picture is None else (self.picture, *self.further_pictures)

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
        all, "blocks" the 8 largest patches and, within 1e-3, the sum of every 4 x 4 block of the grid.

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

    def phrase(
        self, tokens: Sequence[int], *, how: Literal["mean", "max"] = "mean", **where: Any
    ) -> npt.NDArray[np.float32]:
        """One map of several tokens, such as " red" and " star" or the pieces of a word.

        Args:
            tokens: their numbers from 0.
            how: the mean of their maps, or "max": at each patch the value of the largest size.
            where: view, layer, head, kind and grid, as in `map`.

        Raises:
            ValueError: no tokens, another way than these, or as in `map`.
        """
        if not tokens:
            raise ValueError("tokens: got none, expected one or more; name the phrase's")
        if how not in ("mean", "max"):
            raise ValueError(f"how: got {how!r:.60}, expected mean or max; name one of them")
        return joined_maps(np.stack([self.map(token, **where) for token in tokens]), how)

    def words_at(
        self,
        box: find.Box,
        *,
        view: str | None = None,
        layer: int | None = None,
        head: int | None = None,
        image: int = 0,
    ) -> list[find.Inside]:
        """The answer's ordinary words by what they spent inside a box of the image, most first.

        Args:
            box: x0, y0, x1, y1 in px.
            view, layer, head: which maps, as `map` takes them.
            image: the image's number, of several.

        Raises:
            ValueError: a box outside the image, or a view without maps of single words, as `map`.
        """
        return find.words_at(self.facts, self.view(view), box, layer=layer, head=head, image=image)

    def heads_at(
        self, box: find.Box, *, token: int | None = None, view: str | None = None, image: int = 0
    ) -> list[find.Inside]:
        """The heads of a view by what they spent inside a box times how much of their map lies there, most first.

        Args:
            box: x0, y0, x1, y1 in px.
            token: one answer token; None ranks each head by its best ordinary word.
            view: the first view that keeps layers and heads apart when absent.
            image: the image's number, of several.

        Raises:
            ValueError: a box outside the image, a token without a map, or no view that keeps layers and heads apart.
        """
        return find.heads_at(self.facts, find.view_of_heads(self.views, view), box, token=token, image=image)

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
            text = ", which is one of text and has no maps" if name in self.texts else ""
            raise ValueError(f"view: got {name!r}{text}, expected {list(self.views)}; name one of them")
        return self.views[name]

    def with_picture(self, name: str, data: bytes) -> Record:
        """The same record carrying its only picture, so that one file renders and replays."""
        return self.with_pictures([(name, data)])

    def with_pictures(self, pictures: Sequence[tuple[str, bytes]]) -> Record:
        """The same record carrying its pictures.

        Args:
            pictures: (picture.png or picture.jpg, bytes) of each, in the order of `facts.images`.

        Raises:
            ValueError: there are fewer or more than the record was made from.
        """
        if len(pictures) != len(self.facts.images):
            raise ValueError(
                f"pictures: got {len(pictures)}, expected the {len(self.facts.images)} that the record was made from; "
                "give one for each"
            )
        first, *others = pictures
        named = tuple((f"pictures/{i}.{name.rpartition('.')[2]}", data) for i, (name, data) in enumerate(others, 1))
        return replace(self, picture=first, further_pictures=named)

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
        return replace(
            chosen, run=self.run, picture=self.picture, further_pictures=self.further_pictures, alternatives=()
        )

    def with_facts(self, facts: Facts, index: int = 0) -> Record:
        """The same record with other facts about one of its answers, by its number as `sequence` has it."""
        if index == 0:
            return replace(self, facts=facts)
        others = [replace(one, facts=facts) if i == index else one for i, one in enumerate(self.alternatives, 1)]
        return replace(self, alternatives=tuple(others))

    def without_run(self) -> Record:
        """The same record without timings and request id: equal runs encode to equal bytes."""
        return replace(self, run={})
