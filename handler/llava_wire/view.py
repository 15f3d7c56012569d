"""A view: the maps of one selection of layers and heads, as stored and decoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llava_wire.codes.quantize import dequantise
from llava_wire.schema import ViewFacts


@dataclass(frozen=True)
class View:
    """One selection of layers and heads with its maps.

    Args:
        facts: what was selected and how it is stored.
        stored: maps [(query), (layer), (head) or (layer_head), row, col] in the stored precision; `facts.axes` names
            the axes; `maps_float` decodes them. Maps are absolute attention: the sum of a decoded map is its image
            share, to within 1e-3 for "sqrt-u8", 1e-5 for float32.
        scales: [...] float32, one per map, without the row and col axes.
        shares: [..., 4] float32, how each row splits over bos, image, prompt text and answer text; sums to 1.
    """

    facts: ViewFacts
    stored: npt.NDArray[np.generic]
    scales: npt.NDArray[np.float32]
    shares: npt.NDArray[np.float32]

    @property
    def name(self) -> str:
        """The view's name, unique in its record."""
        return self.facts.name

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of the maps."""
        return self.facts.axes

    def maps_float(self) -> npt.NDArray[np.float32]:
        """The decoded maps, float32, same shape as `stored`."""
        return dequantise(self.stored, self.scales, self.facts.encoding)
