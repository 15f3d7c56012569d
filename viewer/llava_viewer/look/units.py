"""What the numbers of a view are, for whoever shows them: the one place that decides texts, scales and palettes.

Flow: `View` -> `Unit` -> texts of values, grey codes and levels of maps, the palette; `shares_of` refuses
what a page or figure cannot show. Shares are percent on a sequential palette from 0; other values are numbers
with their unit; signed ones lie on the palette of differences, with 0 in its middle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llava_doors.door import METHODS
from llava_viewer.look import colormap, wording
from llava_viewer.look.heatmap import to_grey
from llava_wire.quantity import ATTENTION, Quantity
from llava_wire.schema import MethodFacts
from llava_wire.view import View

_MIDDLE, _SIDE = 128, 127
"""The grey of zero in a signed map, and how many greys lie on either side of it."""


@dataclass(frozen=True)
class Unit:
    """How the values of one quantity are shown."""

    quantity: Quantity = ATTENTION

    @property
    def is_share(self) -> bool:
        """Whether values are shares, and so percent."""
        return self.quantity.is_share

    @property
    def signed(self) -> bool:
        """Whether values below 0 have a meaning."""
        return self.quantity.signed

    def text(self, value: float) -> str:
        """A value with its unit: "2.1 %", "0.12 logit", of signed quantities "+0.12 logit"."""
        if self.is_share:
            return wording.percent(value)
        sign = "+" if self.signed and value > 0 else ""
        return f"{sign}{wording.amount(value)}{wording.NBSP}{self.quantity.unit}".rstrip(wording.NBSP)

    def split(self, names: Sequence[str], parts: Sequence[float]) -> str:
        """A row's total and what it splits into: "Adds up to 17.6 logit: image 14.6, prompt 0.5, itself 2.5"."""
        total, *told = wording.amounts([math.fsum(parts), *parts])
        whole = f"{total}{wording.NBSP}{self.quantity.unit}".rstrip(wording.NBSP)
        return f"Adds up to {whole}: " + ", ".join(f"{name} {part}" for name, part in zip(names, told, strict=True))

    def ends(self, maximum: float) -> tuple[str, str]:
        """The texts at both ends of the scale of a maximum."""
        return (self.text(-maximum) if self.signed else "0"), self.text(maximum)

    def scale(self, maximum: float) -> str:
        """The scale in one text: its upper end, of signed quantities both ends."""
        low, high = self.ends(maximum)
        return f"{low} to {high}" if self.signed else high

    @property
    def per_patch(self) -> str:
        """What a legend says of its numbers."""
        if self.is_share:
            return f"share of {self.quantity.name} per patch"
        unit = f" in {self.quantity.unit}" if self.quantity.unit else ""
        return f"{self.quantity.name}{unit} per patch" + ("; orange above 0, purple below" if self.signed else "")

    def error(self, bound: float) -> str:
        """The largest error of a value, as a text."""
        if self.is_share:
            return f"{wording.error_bound(bound)} of a token's {self.quantity.name}"
        return wording.error_bound(0) if bound == 0 else f"±{wording.amount(bound)} {self.quantity.unit}".strip()

    def palette(self, chosen: str) -> str:
        """The palette that maps are drawn with: that of differences for signed ones, whatever was chosen."""
        return colormap.DIFFERENCE if self.signed else chosen

    def peaks(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The end of each map's own scale, [...] of [..., row, col]: its largest value, or absolute value."""
        sized = np.abs(maps) if self.signed else np.maximum(maps, np.float32(0))
        return np.asarray(sized.max(axis=(-2, -1), initial=0.0), np.float32)

    def brightest(self, heat: npt.NDArray[np.float32]) -> tuple[int, int]:
        """Row and column of the largest value of a map [row, col], or absolute value."""
        row, col = np.unravel_index(int((np.abs(heat) if self.signed else heat).argmax()), heat.shape)
        return int(row), int(col)

    def grey(self, maps: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        """Maps [..., row, col] as a page's grey levels of the same shape, and their peaks [...].

        Signed maps have 128 at 0 and value = peak * (grey - 128) / 127. Others have square-root codes; those of shares
        are chosen so that sums stay right (`to_grey`).
        """
        if self.is_share:
            return to_grey(maps)
        peaks = self.peaks(maps)
        safe = np.where(peaks > 0, peaks, np.float32(1))[..., None, None]
        if not self.signed:
            return np.rint(255 * np.sqrt(np.maximum(maps, np.float32(0)) / safe)).astype(np.uint8), peaks
        return (np.rint(_SIDE * (maps / safe)) + _MIDDLE).astype(np.uint8), peaks

    def values(self, grey: npt.NDArray[np.uint8], peaks: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What a page reads back out of `grey`, [..., row, col] float32."""
        tops = np.asarray(peaks, np.float32)[..., None, None]
        if not self.signed:
            return np.asarray(tops * (grey / np.float32(255)) ** 2, np.float32)
        return np.asarray(tops * ((grey.astype(np.float32) - _MIDDLE) / _SIDE), np.float32)

    def levels(self, heat: npt.NDArray[np.floating], maximum: float) -> npt.NDArray[np.float64]:
        """A map on its scale, [...] in 0..1 of the palette: 0 lies at 0, of signed quantities in the middle."""
        return colormap.on_scale(heat, maximum, signed=self.signed)

    def opacity(self, levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """How opaque the heat is at these levels."""
        return colormap.opacity(levels, signed=self.signed)


def unit_of(view: View) -> Unit:
    """How a view's values are shown."""
    return Unit(view.quantity)


def method_text(method: MethodFacts, quantity: Quantity) -> str:
    """How maps were made and what they are: "attention (share)", "contribution (logit), method toy: layer 1"."""
    what = f"{quantity.name} ({quantity.unit})" if quantity.unit else quantity.name
    if method == MethodFacts():
        return what
    chosen = ", ".join(f"{name} {value}" for name, value in method.parameters.items() if value != "")
    return f"{what}, method {method.name}" + (f": {chosen}" if chosen else "")


def method_summary(method: MethodFacts) -> str:
    """A method's own sentence on what its maps say; none of attention, nor of a method that is not installed here."""
    known = METHODS.known()
    return "" if method.name == MethodFacts().name or method.name not in known else known[method.name].summary


def shares_of(view: View, what: str) -> npt.NDArray[np.float32]:
    """The shares [..., 4] of a view, for what shows shares.

    Args:
        what: what is to be made, as errors call it: "compare".

    Raises:
        ValueError: naming the view's quantity.
    """
    if view.shares is None:
        raise ValueError(
            f"{what}: got view {view.name!r:.60} of {view.quantity.name!r:.60}, expected one of shares; name another "
            "view"
        )
    return view.shares
