"""Palettes as tables: numbers 0..1 (differences -1..1) -> RGB, for Pillow images and SVG filters.

Each palette is 18 colours, every fifteenth of the 256 that its authors published (cividis: Nunez, Anderton and Renslow
2018; viridis and inferno: Smith and van der Walt 2015, public domain), joined by straight lines; a joined colour is
within 6/255 of the published one in every channel, within 12/255 in the dark fifth of cividis. Differences have a
palette of their own with a pale middle: the seven-class PuOr of ColorBrewer (Brewer 2002), safe for the colour-blind.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

PALETTES = ("cividis", "viridis", "inferno")
DEFAULT_PALETTE = "cividis"
DIFFERENCE = "difference"
"""The palette of differences: purple below zero, pale at zero, orange above."""

_STOPS = {
    "cividis": (
        "00224e002d681637702e416d3f4c6c4e566c5c616e696b71767676838179928c78a09875afa471bfb06bcfbd62dfca57f0d846fee838"
    ),
    "viridis": (
        "440154481769472a7a433d843d4e8a355e8d2e6d8e297b8e23898e1f978b21a5852eb37c46c06f65cb5e89d548b0dd2fd8e219fde725"
    ),
    "inferno": (
        "0000040a07221e0c45380962510e6c69166e801f6c982766b0315bc63d4dd94d3de9612bf47918fa9407fcb014f8cd37f2ea69fcffa4"
    ),
}
_DIFFERENCE_STOPS = "542788998ec3d8daebf7f7f7fee0b6f1a340b35806"
_ALPHA = (0.0, 0.22, 0.36, 0.46, 0.53, 0.59, 0.64, 0.68, 0.71, 0.74, 0.76)
"""How opaque the heat is at 0, 10, .. 100 % of the scale: nothing at nothing, and never all, so that
the picture stays readable."""


def stops(palette: str) -> npt.NDArray[np.float64]:
    """The palette's colours at equal steps, [18, 3] float64 in 0..1 ([7, 3] for `DIFFERENCE`)."""
    if palette == DIFFERENCE:
        return np.frombuffer(bytes.fromhex(_DIFFERENCE_STOPS), np.uint8).reshape(-1, 3) / 255
    if palette not in _STOPS:
        raise ValueError(f"palette: got {palette!r}, expected {list(PALETTES)}")
    return np.frombuffer(bytes.fromhex(_STOPS[palette]), np.uint8).reshape(-1, 3) / 255


def lookup(palette: str, values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Colours of values [...] in 0..1, as [..., 3] uint8 sRGB; values outside are clipped."""
    table = stops(palette)
    at = np.linspace(0, 1, len(table))
    channels = [np.interp(values, at, table[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=-1) * 255).astype(np.uint8)


def alpha(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """How opaque the heat is at values [...] in 0..1 of the scale, as [...] in 0..1."""
    return np.interp(values, np.linspace(0, 1, len(_ALPHA)), _ALPHA)


def on_scale(heat: npt.NDArray[np.floating], most: float, *, signed: bool) -> npt.NDArray[np.float64]:
    """Values [...] on the scale up to `most`, in 0..1; a signed one begins at its negative and has 0 in the middle."""
    part = heat.astype(np.float64) / (most if most > 0 else 1.0)
    return np.clip((part + 1) / 2 if signed else part, 0, 1)


def opacity(levels: npt.NDArray[np.float64], *, signed: bool) -> npt.NDArray[np.float64]:
    """How opaque the heat is at what `on_scale` gives, [...] in 0..1: nothing at the value 0."""
    return alpha(np.abs(2 * levels - 1) if signed else levels)


def filter_tables(palette: str) -> tuple[str, str, str]:
    """The red, green and blue `tableValues` of an SVG feComponentTransfer that colours a grey image."""
    red, green, blue = (" ".join(_short(value) for value in channel) for channel in stops(palette).T)
    return red, green, blue


def alpha_table(*, inverse: bool = False) -> str:
    """`tableValues` for the heat's opacity, or for the darkness of the spotlight (`inverse`)."""
    values = [_ALPHA[-1] - value for value in _ALPHA] if inverse else list(_ALPHA)
    return " ".join(_short(value) for value in values)


def difference_alpha_table() -> str:
    """`tableValues` for a difference's opacity over grey 0..1: the middle is zero and lets the picture through."""
    return " ".join(_short(value) for value in (*_ALPHA[:0:-1], *_ALPHA))


def gradient(palette: str) -> tuple[tuple[str, str], ...]:
    """(offset in %, #rrggbb) pairs of an SVG gradient that runs through the palette."""
    table = stops(palette)
    last = len(table) - 1
    return tuple(
        (f"{100 * index / last:.1f}%", "#" + bytes(np.rint(colour * 255).astype(np.uint8)).hex())
        for index, colour in enumerate(table)
    )


def _short(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".").removeprefix("0") or "0"
