"""A view: the maps of one selection of layers and heads, as stored and decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from llava_wire.codes.quantize import dequantise, store
from llava_wire.grids import Grid, pick, span
from llava_wire.quantity import Quantity
from llava_wire.schema import ViewFacts


@dataclass(frozen=True)
class View:
    """One selection of layers and heads with its maps.

    Args:
        facts: what was selected and how it is stored.
        stored: maps [(query), (layer), (head) or (layer_head), patch] in the stored precision, the patches of all grids
            one after the other; `facts.axes` names the axes; `maps_float` decodes them. Maps of attention are absolute:
            the sum of a decoded map is its image share, to within 1e-3 a grid for "sqrt-u8", 1e-5 for float32.
        scales: [...] float32, one per map, without the patch axis.
        shares: [..., 4] float32, how each row splits over bos, image, prompt text and answer text, sums to 1; None
            where `quantity` is no share.
        grids: the record's grids, in the order of the patches.
    """

    facts: ViewFacts
    stored: npt.NDArray[np.generic]
    scales: npt.NDArray[np.float32]
    shares: npt.NDArray[np.float32] | None
    grids: tuple[Grid, ...]

    @classmethod
    def of(
        cls,
        facts: ViewFacts,
        maps: npt.NDArray[np.float32],
        shares: npt.NDArray[np.float32] | None,
        grids: Sequence[Grid],
    ) -> View:
        """A view of these maps, stored as its precision and quantity ask; encoding and error bound are filled in.

        Args:
            facts: with the precision and quantity wanted.
            maps: [..., patch] float32, finite, and >= 0 unless the quantity is signed.
            shares: [..., 4] float32 where the quantity is a share, else None.
            grids: the record's.

        Raises:
            ValueError: maps or shares that do not fit the quantity or the grids.
        """
        patches = sum(grid.patches for grid in grids)
        if maps.shape[-1] != patches:
            raise ValueError(f"maps: got {maps.shape[-1]} patches, expected the {patches} of {len(grids)} grids")
        if (shares is None) == facts.quantity.is_share:
            held = "shares" if shares is not None else "no shares"
            raise ValueError(f"shares: got {held} of {facts.quantity.name!r}, expected them for shares alone")
        found = store(maps, facts.precision, [(grid.rows, grid.cols) for grid in grids], facts.quantity)
        made = replace(facts, encoding=found.encoding, error_bound=found.error_bound)
        kept = None if shares is None else np.ascontiguousarray(shares, dtype="<f4")
        return cls(made, found.codes, found.scales, kept, tuple(grids))

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
        named = list(zip(self.axes, self.stored.shape, strict=True))
        if len(self.grids) == 1:
            named[-1:] = [("row", self.grids[0].rows), ("col", self.grids[0].cols)]
        return tuple(named)

    def patches_float(self) -> npt.NDArray[np.float32]:
        """The decoded maps, float32 [..., patch] over all grids."""
        return dequantise(self.stored, self.scales, self.facts.encoding)

    def maps_float(self, grid: str | int | None = None) -> npt.NDArray[np.float32]:
        """The decoded maps of one grid, float32 [..., row, col].

        Args:
            grid: its name or number; may be left out where there is one.

        Raises:
            ValueError: there are several grids and none was named, or there is none of this name.
        """
        return dequantise(self.on_grid(grid), self.scales, self.facts.encoding)

    def on_grid(self, grid: str | int | None = None) -> npt.NDArray[np.generic]:
        """The stored numbers of one grid, [..., row, col]; arguments and errors as `maps_float`."""
        number = pick(self.grids, grid)
        chosen = self.grids[number]
        part = np.ascontiguousarray(self.stored[..., span(self.grids, number)])
        return part.reshape(*self.lead, chosen.rows, chosen.cols)

    def at(self, query: int) -> View:
        """The row of one query, without the query axis."""
        shares = None if self.shares is None else self.shares[query]
        facts = replace(self.facts, axes=self.axes[1:])
        return View(facts, self.stored[query], self.scales[query], shares, self.grids)
