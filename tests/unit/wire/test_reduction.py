"""The four reductions: axes, maps per row and what each map averages, for grids and for pairs."""

from __future__ import annotations

import math
from typing import get_args, get_type_hints

import pytest

from llava_wire.reduction import NUMBERED, REDUCTIONS
from llava_wire.schema import ViewFacts

GRID = ((3, 1), (0, 2, 5), ())
PAIRS = ((), (), ((1, 1), (0, 2)))


def test_slots_share_out_the_cells_of_a_selection():
    slots = {name: reduction.slots(*GRID) for name, reduction in REDUCTIONS.items()}
    assert slots["none"] == (((3, 0),), ((3, 2),), ((3, 5),), ((1, 0),), ((1, 2),), ((1, 5),))
    assert slots["heads"] == (((3, 0), (3, 2), (3, 5)), ((1, 0), (1, 2), (1, 5)))
    assert slots["layers_heads"] == slots["all"] == (sum(slots["heads"], ()),)
    assert REDUCTIONS["none"].slots(*PAIRS) == (((1, 1),), ((0, 2),))
    assert REDUCTIONS["all"].slots(*PAIRS) == (((1, 1), (0, 2)),)


@pytest.mark.parametrize("selection", [GRID, PAIRS])
@pytest.mark.parametrize("name", list(REDUCTIONS))
def test_shape_and_slots_agree(name, selection):
    reduction = REDUCTIONS[name]
    if reduction.allows(paired=bool(selection[2])):
        assert math.prod(reduction.shape(*selection)) == len(reduction.slots(*selection))
        kept = [axis for axis in reduction.axes(paired=bool(selection[2])) if axis not in ("query", "patch")]
        assert len(kept) == len(reduction.shape(*selection))


def test_axes_are_those_that_the_wire_format_names():
    grid = {
        "none": ("query", "layer", "head", "patch"),
        "heads": ("query", "layer", "patch"),
        "layers_heads": ("query", "patch"),
        "all": ("patch",),
    }
    pairs = {"none": ("query", "layer_head", "patch"), "layers_heads": ("query", "patch"), "all": ("patch",)}
    for paired, table in ((False, grid), (True, pairs)):
        found = {name: one.axes(paired=paired) for name, one in REDUCTIONS.items() if one.allows(paired=paired)}
        assert found == table
    assert set(REDUCTIONS) == set(get_args(get_type_hints(ViewFacts)["reduction"]))


def test_numbers_of_the_toolkit_and_words():
    assert NUMBERED == {3: "heads", 2: "layers_heads", 1: "all"}
    assert REDUCTIONS["all"].words(6, "0-3") == "mean over answer steps 0-3 and over 6 heads"
    assert {one.words(1) for name, one in REDUCTIONS.items() if name in ("none", "layers_heads")} == {
        "one head, nothing averaged"
    }
