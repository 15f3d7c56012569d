"""One run of the model: facts, geometry and views, with the arrays decoded on demand.

Flow: `Facts` + `Geometry` + `View`s -> `Record` -> `llava_wire.writing` -> bytes -> `llava_wire.container` -> `Record`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from llava_wire.choose import choose_maps, rows_of
from llava_wire.display import GROUP, display
from llava_wire.geometry import Geometry
from llava_wire.schema import Facts, Query, Token
from llava_wire.view import View


@dataclass(frozen=True, repr=False)
class Record:
    """One answered question with its attention.

    Args:
        facts: answer, tokens, prompt, image, model, queries.
        geometry: from the original picture to the patch grid.
        views: by name, in the order of the request.
        run: timings and request id; not part of what two equal runs share.
        picture: the oriented, EXIF-free picture as (file name, bytes) when a client added it.
        alternatives: further answers of the same request (beams, samples), best or first drawn first; they carry
            neither alternatives, nor picture, nor run block of their own.
    """

    facts: Facts
    geometry: Geometry
    views: dict[str, View]
    run: dict[str, Any] = field(default_factory=dict)
    picture: tuple[str, bytes] | None = None
    alternatives: tuple[Record, ...] = ()

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

    def maps_float(self) -> npt.NDArray[np.float32]:
        """The first view's maps, float32 [(query), (layer), (head) or (layer_head), row, col]."""
        return next(iter(self.views.values())).maps_float()

    def map(
        self,
        token: int | None = None,
        *,
        view: str | None = None,
        layer: int | None = None,
        head: int | None = None,
        kind: Literal["answer", "prompt"] = "answer",
    ) -> npt.NDArray[np.float32]:
        """One map of absolute attention, float32 [row, col]; its sum is the share of attention on the image.

        Stored in 8 bits (the default) the sum is right within 1e-3, its peak within 0.5 % and every block of 4 x 4
        patches within 2 % or 5e-4; `precision: "float32"` keeps all.

        Args:
            token: the answer token's number from 0; None for the mean over the answer's ordinary tokens.
            view: a view's name; the first view when absent.
            layer, head: 0-based, where the view keeps them apart; an axis that is not named is averaged.
            kind: "prompt" reads `token` as a position in the prompt's ids, for records with question rows.

        Raises:
            ValueError: the record holds no such view, row, layer or head.
        """
        chosen = self.view(view)
        maps, _ = choose_maps(chosen, layer, head)
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
                f"overlay: got no package that draws, allowed one with the entry point {GROUP!r}; "
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
            raise ValueError(f"view: got {name!r}, allowed {list(self.views)}; name one of them")
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
            raise ValueError(f"sequence: got {index}, allowed 0 to {len(self.alternatives)}; the record holds no more")
        chosen = self.alternatives[index - 1] if index else self
        return replace(chosen, run=self.run, picture=self.picture, alternatives=())

    def without_run(self) -> Record:
        """The same record without timings and request id: equal runs encode to equal bytes."""
        return replace(self, run={})
