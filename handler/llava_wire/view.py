"""A view: the maps of one selection of layers and heads, as stored and decoded; and one of text, without a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from llava_wire.codes.blocks import Kept, plots_of
from llava_wire.codes.quantize import Stored, restored, store
from llava_wire.grids import Grid, pick, span
from llava_wire.quantity import Quantity
from llava_wire.schema import SEPARATORS, SHARE_NAMES, TextFacts, ViewFacts


@dataclass(frozen=True)
class View:
    """One selection of layers and heads with its maps.

    Args:
        facts: what was selected and how it is stored.
        stored: maps [(query), (layer), (head) or (layer_head), patch] in the stored precision, the patches of all grids
            one after the other; `facts.axes` names the axes; `maps_float` decodes them. Maps of attention are absolute:
            the sum of a decoded map is its image share, to within 1e-3 a grid for "sqrt-u8", 1e-5 for float32. In
            "blocks-u8" codes of blocks [..., block] stand for the patches.
        scales: [...] float32, one per map, without the patch axis.
        shares: [..., 4] float32, how each row splits over bos, image, prompt text and answer text, sums to 1; None
            where `quantity` is no share.
        grids: the record's grids, in the order of the patches.
        parts: [..., part] float32, what each row's total splits into, by the names of `facts.parts`; their sum is the
            total. None where there are no names.
        kept: the patches that are stored singly, of "blocks-u8" alone.
        separators: [...] float32, what of the prompt's share lies on the images' tokens that are in no grid
            (`Prompt.separators`); None where there are none, or it is not known. `split` tells them apart.
    """

    facts: ViewFacts
    stored: npt.NDArray[np.generic]
    scales: npt.NDArray[np.float32]
    shares: npt.NDArray[np.float32] | None
    grids: tuple[Grid, ...]
    parts: npt.NDArray[np.float32] | None = None
    kept: Kept | None = None
    separators: npt.NDArray[np.float32] | None = None

    @classmethod
    def of(
        cls,
        facts: ViewFacts,
        maps: npt.NDArray[np.float32] | Stored,
        shares: npt.NDArray[np.float32] | None,
        grids: Sequence[Grid],
        parts: npt.NDArray[np.float32] | None = None,
        separators: npt.NDArray[np.float32] | None = None,
    ) -> View:
        """A view of these maps, stored as its precision and quantity ask; encoding and error bound are filled in.

        Args:
            facts: with the precision and quantity wanted.
            maps: [..., patch] float32, finite, and >= 0 unless the quantity is signed; or stored already.
            shares: [..., 4] float32 where the quantity is a share, else None.
            grids: the record's.
            parts: [..., part] float32 where `facts.parts` has names, else None.
            separators: [...] float32 beside shares, where they are known.

        Raises:
            ValueError: maps, shares, separators or parts that do not fit the quantity or the grids.
        """
        if not isinstance(maps, Stored):
            patches = sum(grid.patches for grid in grids)
            if maps.shape[-1] != patches:
                raise ValueError(f"maps: got {maps.shape[-1]} patches, expected the {patches} of {len(grids)} grids")
            maps = store(maps, facts.precision, [(grid.rows, grid.cols) for grid in grids], facts.quantity)
        if (shares is None) == facts.quantity.is_share:
            held = "shares" if shares is not None else "no shares"
            raise ValueError(f"shares: got {held} of {facts.quantity.name!r}, expected them for shares alone")
        if separators is not None and (shares is None or separators.shape != shares.shape[:-1]):
            expected = "none" if shares is None else f"{shares.shape[:-1]}"
            raise ValueError(f"separators: got {separators.shape} of {facts.quantity.name!r}, expected {expected}")
        shape, wanted = None if parts is None else parts.shape, (*maps.codes.shape[:-1], len(facts.parts))
        if shape != (wanted if facts.parts else None) or (facts.parts and facts.quantity.is_share):
            raise ValueError(
                f"parts: got {shape} of {facts.quantity.name!r}, expected {wanted} where they have names, else none"
            )
        bounds = {"error_bound": maps.error_bound, "block_error_bound": maps.block_error_bound}
        made = replace(facts, encoding=maps.encoding, **bounds)  # type: ignore[arg-type]
        kept = None if shares is None else np.ascontiguousarray(shares, dtype="<f4")
        split = None if parts is None else np.ascontiguousarray(parts, dtype="<f4")
        apart = None if separators is None else np.asarray(separators, dtype="<f4")
        return cls(made, maps.codes, maps.scales, kept, tuple(grids), split, maps.kept, apart)

    @property
    def name(self) -> str:
        """The view's name, unique in its record."""
        return self.facts.name

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of the maps."""
        return self.facts.axes

    @property
    def quantity(self) -> Quantity:
        """What the numbers of the maps are."""
        return self.facts.quantity

    @property
    def lead(self) -> tuple[int, ...]:
        """Sizes of the axes without the patches."""
        return self.stored.shape[:-1]

    @property
    def sizes(self) -> tuple[tuple[str, int], ...]:
        """The axes of the maps and their sizes, for people: on one grid rows and columns in place of patches."""
        named = list(zip(self.axes, (*self.lead, self.patches), strict=True))
        if len(self.grids) == 1:
            named[-1:] = [("row", self.grids[0].rows), ("col", self.grids[0].cols)]
        return tuple(named)

    @property
    def patches(self) -> int:
        """How many patches a map has, on all grids."""
        return sum(grid.patches for grid in self.grids)

    @property
    def nbytes(self) -> int:
        """What the arrays take in memory."""
        arrays = [self.stored, self.scales, self.shares, self.parts, self.separators]
        arrays += [self.kept.places, self.kept.values] if self.kept is not None else []
        return sum(int(each.nbytes) for each in arrays if each is not None)

    @property
    def split_names(self) -> tuple[str, ...]:
        """What `split` tells apart."""
        return SHARE_NAMES if self.separators is None else (*SHARE_NAMES, SEPARATORS)

    def split(self) -> npt.NDArray[np.float32] | None:
        """How each row splits, float32 [..., name] by `split_names`: `shares`, but for separators, which are taken out
        of the prompt's where they are known; None where the quantity is no share."""
        if self.shares is None or self.separators is None:
            return self.shares
        found = np.concatenate([self.shares, self.separators[..., None]], axis=-1)
        prompt = SHARE_NAMES.index("prompt")
        found[..., prompt] = np.maximum(found[..., prompt] - self.separators, 0)
        return found

    def patches_float(self) -> npt.NDArray[np.float32]:
        """The decoded maps, float32 [..., patch] over all grids."""
        return restored(self._kept_as(), self._shapes)

    def maps_float(self, grid: str | int | None = None) -> npt.NDArray[np.float32]:
        """The decoded maps of one grid, float32 [..., row, col].

        Args:
            grid: its name or number; may be left out where there is one.

        Raises:
            ValueError: there are several grids and none was named, or there is none of this name.
        """
        number = pick(self.grids, grid)
        maps = restored(self._kept_as(), self._shapes, number)
        return maps.reshape(*self.lead, *self._shapes[number])

    def on_grid(self, grid: str | int | None = None) -> npt.NDArray[np.generic]:
        """The stored numbers of one grid, [..., row, col], of encodings that have one for each patch.

        Raises:
            ValueError: as `maps_float`, or the view is stored in blocks.
        """
        number = pick(self.grids, grid)
        chosen = self.grids[number]
        if self.kept is not None:
            raise ValueError(f"view: got {self.name!r}, stored in blocks, expected a number a patch; take maps_float")
        part = np.ascontiguousarray(self.stored[..., span(self.grids, number)])
        return part.reshape(*self.lead, chosen.rows, chosen.cols)

    def sums_by_grid(self) -> npt.NDArray[np.float64]:
        """What of each map lies on each grid, float64 [..., grid]: of attention, the share of the row."""
        sums = [self.maps_float(number).sum(axis=(-2, -1), dtype=np.float64) for number in range(len(self.grids))]
        return np.stack(sums, axis=-1)

    def sums_by_image(self) -> npt.NDArray[np.float64]:
        """What of each map lies on the grids of each image, float64 [..., image]; as `sums_by_grid`."""
        by_grid, images = self.sums_by_grid(), [grid.image for grid in self.grids]
        found = np.zeros((*by_grid.shape[:-1], max(images) + 1))
        for number, image in enumerate(images):
            found[..., image] += by_grid[..., number]
        return found

    def part(self, number: int) -> View:
        """The maps on one grid alone, by its number; shares, separators and parts stay those of all."""
        if self.kept is None:
            stored, kept = self.stored[..., span(self.grids, number)], None
        else:
            plot = plots_of(self._shapes)[number]
            stored, kept = self.stored[..., plot.blocks], self.kept[..., plot.kept]
        return replace(self, stored=np.ascontiguousarray(stored), grids=(self.grids[number],), kept=kept)

    def at(self, query: int) -> View:
        """The row of one query, without the query axis."""
        arrays = self.shares, self.parts, self.separators
        shares, parts, apart = (None if values is None else values[query] for values in arrays)
        facts = replace(self.facts, axes=self.axes[1:])
        kept = None if self.kept is None else self.kept[query]
        return View(facts, self.stored[query], self.scales[query], shares, self.grids, parts, kept, apart)

    @property
    def _shapes(self) -> list[tuple[int, int]]:
        return [(grid.rows, grid.cols) for grid in self.grids]

    def _kept_as(self) -> Stored:
        facts = self.facts
        return Stored(self.stored, self.scales, facts.encoding, facts.error_bound, facts.block_error_bound, self.kept)


@dataclass(frozen=True)
class TextView:
    """One number for each token of prompt and answer that is no patch, in every row: which words a row read.

    Args:
        facts: what was selected, and which tokens the columns are.
        values: [query, column] float32, in the unit of the quantity; 0 for tokens after the row.
    """

    facts: TextFacts
    values: npt.NDArray[np.float32]

    @classmethod
    def of(cls, facts: TextFacts, values: npt.NDArray[np.float32], rows: Sequence[int]) -> TextView:
        """A view of these numbers.

        Args:
            facts: what was selected, and which tokens the columns are.
            values: [query, column] float32, >= 0 unless the quantity is signed.
            rows: the position of each query, in prompt and answer.

        Raises:
            ValueError: numbers that the quantity cannot have, or of words after their row.
        """
        made = cls(facts, np.ascontiguousarray(values, dtype="<f4"))
        if not facts.quantity.signed and values.min(initial=0.0) < 0:
            raise ValueError(f"values: got {values.min():g}, expected all of {facts.quantity.name!r} 0 or more")
        if values[made.later(rows)].any():
            raise ValueError("values: got one of a word after its row, expected 0 there")
        return made

    def later(self, rows: Sequence[int]) -> npt.NDArray[np.bool_]:
        """[query, column]: which words come after their row, by the position of each query."""
        return np.array(self.positions) > np.array(rows)[:, None]

    @property
    def name(self) -> str:
        """The view's name, unique in its record."""
        return self.facts.name

    @cached_property
    def positions(self) -> tuple[int, ...]:
        """The token of each column: its place in the prompt's ids, or that in the answer and the length of those."""
        return tuple(place for first, count in self.facts.columns for place in range(first, first + count))

    def most(self, query: int, count: int) -> list[tuple[int, float]]:
        """The columns of the largest values in a row, (position, value), largest first; those of 0 are left out."""
        row, positions = self.values[query], self.positions
        order = np.argsort(-np.abs(row), kind="stable")[:count]
        return [(positions[column], float(row[column])) for column in order.tolist() if row[column]]
