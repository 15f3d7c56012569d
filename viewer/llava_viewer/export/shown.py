"""What an export shows: a record, a view, a layer and head -> one map and one share row per token, with a scale.

Flow: `Record` + `Look` -> `show` -> `Shown`, whose numbers every figure, sheet, animation and table takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from llava_viewer.look import colormap, wording
from llava_viewer.look.photo import ground, paled
from llava_viewer.look.rows import answer_rows, first_row, question_rows
from llava_viewer.look.selection import reduction_text, selection_text
from llava_viewer.look.units import Unit, method_text, unit_of
from llava_viewer.look.view_model import Row
from llava_viewer.one_grid import IMAGE, OneGrid, on_one_grid, place
from llava_wire.choose import choose_maps, choose_parts, chosen_slots, ordinary_rows
from llava_wire.record import Record
from llava_wire.view import View

MODES = ("heat", "spotlight", "map")
SCALES = ("token", "shared")
WHOLE = "the whole answer"
MAX_VALUES = 1 << 24
"""Values of the maps of all tokens that one export or comparison holds at once."""


@dataclass(frozen=True)
class Look:
    """How maps are drawn; the same words as in the report.

    Args:
        mode: "heat" over a greyed picture, "spotlight" (what was not read is dark) or "map" (opaque).
        scale: "token" (each map against its own maximum) or "shared" (all against the largest).
        width_mm: the width of a figure on paper; dpi: pixels per inch of a PNG.
        caption: question, answer and selection under the legend.
        crop: without the parts of the picture that the model did not see.
        fonts: font files that go before the built-in one.
    """

    mode: str = "heat"
    palette: str = colormap.DEFAULT_PALETTE
    scale: str = "token"
    width_mm: float = 84.0
    dpi: int = 300
    caption: bool = True
    fonts: tuple[str, ...] = ()
    crop: bool = False

    def __post_init__(self) -> None:
        for name, got, allowed in (
            ("mode", self.mode, MODES), ("palette", self.palette, colormap.PALETTES), ("scale", self.scale, SCALES),
        ):  # fmt: skip
            if got not in allowed:
                raise ValueError(f"{name}: got {got!r}, expected {', '.join(allowed)}")
        if not 20 <= self.width_mm <= 1000:
            raise ValueError(f"width_mm: got {self.width_mm:g}, expected 20 to 1000")
        if not 36 <= self.dpi <= 1200:
            raise ValueError(f"dpi: got {self.dpi}, expected 36 to 1200")


@dataclass(frozen=True)
class Item:
    """One map with its token.

    Args:
        name: a short text that is safe in file names: "step_3", "question_40" or "mean".
        text: the token as shown; row: the token's row, None for a map of the whole answer.
        heat: [row, col] float32, in the view's quantity; shares: [name] float32 by `View.split_names`, None where that
            is no share.
        parts: [part] float32 by the view's names, None where its totals do not split.
        maximum: the value at the top of the scale; of signed quantities the scale begins at its negative.
        unit: how values are shown.
        place: what the attention on its patches is said to lie on.
        tokens: of a phrase its tokens' numbers, whose maps became one by `how`; a phrase has no row.
    """

    name: str
    text: str
    row: Row | None
    query: int
    heat: npt.NDArray[np.float32]
    shares: npt.NDArray[np.float32] | None
    parts: npt.NDArray[np.float32] | None
    maximum: float
    unit: Unit
    place: str = IMAGE
    tokens: tuple[int, ...] = ()
    how: str = ""

    @property
    def image_share(self) -> float:
        """The share of this row's attention that lies on `place`; 0 for what is no share."""
        return float(self.shares[1]) if self.shares is not None else 0.0

    @property
    def peak(self) -> float:
        """The brightest patch's value, of signed quantities its size."""
        return float(self.unit.peaks(self.heat))

    @property
    def peak_text(self) -> str:
        """The brightest patch's value as a text, with its sign."""
        return self.unit.text(float(self.heat[self.unit.brightest(self.heat)]))

    @property
    def uniform(self) -> float:
        """What each patch would hold if the attention on `place` were spread evenly; 0 for what is no share."""
        return self.image_share / self.heat.size

    def levels(self) -> npt.NDArray[np.float64]:
        """The map on its scale, [row, col] in 0..1."""
        return self.unit.levels(self.heat, self.maximum)


@dataclass(frozen=True)
class Shown:
    """The maps of one view, layer and head, one item per row; `selection` says in words what was taken."""

    record: Record
    view: View
    layer: int | None
    head: int | None
    look: Look
    items: tuple[Item, ...]
    selection: str

    @cached_property
    def _backdrops(self) -> dict[int, PillowImage.Image]:
        return {}

    def backdrop(self, side_px: int) -> PillowImage.Image:
        """What these maps lie on, its longer side at most `side_px`: for heat paler, as in the report. Made once."""
        if side_px not in self._backdrops:
            picture = ground(self.record, side_px)
            self._backdrops[side_px] = paled(picture) if self.look.mode == "heat" else picture
        return self._backdrops[side_px]

    def item(self, token: int | None = None) -> Item:
        """The item of an answer token; the one that a report opens on when None is named.

        Raises:
            ValueError: the record holds no row for it.
        """
        if "query" not in self.view.axes:
            if token is not None:
                raise ValueError(
                    f"token: got {token}, expected none: view {self.view.name!r} is one map for the answer"
                )
            return self.items[0]
        key = f"t{token}" if token is not None else first_row(self.record, [i.row for i in self.items if i.row])
        found = next((item for item in self.items if item.row and item.row.key == key), None)
        if found is None:
            keys = [item.row.key[1:] for item in self.items if item.row and item.row.key.startswith("t")]
            raise ValueError(f"token: got {token}, expected {', '.join(keys) or 'none'}")
        return found

    def state(self, item: Item) -> str:
        """What `llava-viewer render --open` takes to show the same: "t=4&v=mean&l=2"."""
        grid = f" on {self.record.grid_name}" if isinstance(self.record, OneGrid) else ""
        token = item.row.key.removeprefix("t") if item.row else None
        if item.tokens:
            token = ",".join([*map(str, item.tokens), *["max"] * (item.how == "max")])
        parts = {"t": token, "v": self.view.name + grid, "l": self.layer, "h": self.head}
        return urlencode({name: value for name, value in parts.items() if value is not None}, safe=",")

    def ordinary(self) -> tuple[Item, ...]:
        """The items that a mean over the answer takes, in reading order (`llava_wire.choose.ordinary_rows`)."""
        if "query" not in self.view.axes:
            return self.items
        return tuple(self.items[place] for place in ordinary_rows(self.record.queries, self.record.tokens))


def show(
    record: Record, *, view: str | None = None, layer: int | None = None, head: int | None = None,
    grid: str | int | None = None, look: Look | None = None,
) -> Shown:  # fmt: skip
    """The maps of one view; an axis that is kept apart and not named is averaged.

    Args:
        grid: the name or number of one of several grids; its picture and maps are what is shown.

    Raises:
        ValueError: the record does not hold this view, layer, head or grid, or several grids and none was named.
    """
    look = look or Look()
    record = record if isinstance(record, OneGrid) else on_one_grid(record, grid)
    chosen = record.view(view)
    rows, patches = len(record.queries) if "query" in chosen.axes else 1, record.geometry.rows * record.geometry.cols
    if rows * patches > MAX_VALUES:
        raise ValueError(
            f"view: got {rows} maps of {patches} patches in {chosen.name!r}, expected {MAX_VALUES} values; ask for "
            "fewer steps"
        )
    maps, shares = choose_maps(chosen, layer, head)
    parts = choose_parts(chosen, layer, head)
    unit = unit_of(chosen)
    peaks = unit.peaks(maps)
    top = float(peaks.max(initial=0.0))
    shown: list[Row | None] = [None]
    if "query" in chosen.axes:
        by_query = {row.query: row for row in (*answer_rows(record), *question_rows(record)) if row.key}
        shown = [by_query[query] for query in range(len(record.queries))]
    items = [
        Item(
            name=_name(record, row),
            text=row.text if row else WHOLE,
            row=row,
            query=number,
            heat=maps[number],
            shares=None if shares is None else shares[number],
            parts=None if parts is None else parts[number],
            maximum=top if look.scale == "shared" else float(peaks[number]),
            unit=unit,
            place=place(record),
        )
        for number, row in enumerate(shown)
    ]
    return Shown(record, chosen, layer, head, look, tuple(items), _selection(record, chosen, layer, head))


def _name(record: Record, row: Row | None) -> str:
    if row is None:
        return "mean"
    query = record.queries[row.query]
    return f"step_{query.step}" if query.kind == "answer" else f"question_{query.position}"


def _selection(record: Record, view: View, layer: int | None, head: int | None) -> str:
    """ "view “mean”: all 4 layers × all 8 heads; mean of 32 heads", with the layer and head when they were named."""
    text = f"view “{view.name}”: {selection_text(view.facts, record.facts.model)}; {reduction_text(view.facts)}"
    if not view.quantity.is_share:
        text += f"; {method_text(view.facts.method, view.quantity)}"
    if isinstance(record, OneGrid):
        text += f"; grid “{record.grid_name}”"
    named = [f"layer {layer}"] * (layer is not None) + [f"head {head}"] * (head is not None)
    slots = len(chosen_slots(view, layer, head))
    averaged = [f"mean of {wording.count(slots, 'map')}"] if slots > 1 else []
    return "; ".join([text, *([f"here {', '.join([*named, *averaged])}"] if named or averaged else [])])
