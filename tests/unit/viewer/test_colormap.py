"""Palettes: published ends, rising lightness, the same colours in pictures and in SVG filters."""

from __future__ import annotations

import numpy as np
import pytest

from llava_viewer.look import colormap


@pytest.mark.parametrize(
    ("palette", "first", "last"),
    [
        ("cividis", (0, 34, 78), (254, 232, 56)),
        ("viridis", (68, 1, 84), (253, 231, 37)),
        ("inferno", (0, 0, 4), (252, 255, 164)),
    ],
)
def test_the_ends_are_the_published_colours(palette: str, first: tuple[int, ...], last: tuple[int, ...]) -> None:
    ends = colormap.lookup(palette, np.array([0.0, 1.0]))
    assert ends.tolist() == [list(first), list(last)]


@pytest.mark.parametrize("palette", colormap.PALETTES)
def test_lightness_rises_everywhere(palette: str) -> None:
    colours = colormap.lookup(palette, np.linspace(0, 1, 64)).astype(float)
    light = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) > 0).all()


@pytest.mark.parametrize("palette", colormap.PALETTES)
def test_filter_tables_hold_the_same_colours(palette: str) -> None:
    tables = np.array([[float(value) for value in table.split()] for table in colormap.filter_tables(palette)])
    at = np.linspace(0, 1, tables.shape[1])
    shown = np.rint(255 * tables.T)
    assert np.abs(shown - colormap.lookup(palette, at)).max() <= 1


def test_opacity_rises_from_nothing_and_the_spotlight_is_its_inverse() -> None:
    steps = np.linspace(0, 1, 11)
    opacity = colormap.alpha(steps)
    assert opacity[0] == 0
    assert (np.diff(opacity) > 0).all()
    heat = [float(value) for value in colormap.alpha_table().split()]
    dark = [float(value) for value in colormap.alpha_table(inverse=True).split()]
    assert np.allclose(np.add(heat, dark), opacity[-1], atol=2e-3)


def test_an_unknown_palette_is_refused() -> None:
    with pytest.raises(ValueError, match=r"jet.*cividis"):
        colormap.lookup("jet", np.zeros(1))


def test_differences_are_pale_and_clear_at_zero_and_apart_at_the_ends() -> None:
    below, zero, above = colormap.lookup(colormap.DIFFERENCE, np.array([0.0, 0.5, 1.0])).tolist()
    assert zero == [247, 247, 247]
    assert below[2] > below[0]
    assert above[0] > above[2]
    opacity = [float(value) for value in colormap.difference_alpha_table().split()]
    assert opacity == opacity[::-1]
    assert opacity[len(opacity) // 2] == 0 == min(opacity)
    assert len(colormap.filter_tables(colormap.DIFFERENCE)[0].split()) == 7
