"""Views as a record stores them: what rounding does to sums is told."""

from __future__ import annotations

from typing import Any

import numpy as np

from llava_doors.door import METHODS
from llava_server.answer.stored import rounded
from llava_wire.grids import Grid
from llava_wire.quantity import Quantity
from llava_wire.schema import MethodFacts, ViewFacts
from llava_wire.view import View

GRID = Grid(0, "base", 24, 24, 14, (), ())


def view(precision: Any, parts: tuple[str, ...] = ("image",), quantity: Quantity | None = None) -> View:
    """One large patch, and 575 that one byte rounds to nothing, though they sum to more than half of it."""
    maps = np.full((1, GRID.patches), 0.01, dtype=np.float32)
    maps[0, 0] = 10
    facts = ViewFacts(
        name="why", reduction="layers_heads", axes=("query", "patch"), layers=(), heads=(), pairs=(), head_set="",
        steps=(), precision=precision, encoding="", error_bound=0.0, method=MethodFacts("contributions"),
        quantity=quantity or METHODS.known()["contributions"].quantity, parts=parts,  # type: ignore[arg-type]
    )  # fmt: skip
    return View.of(facts, maps, None, (GRID,), np.repeat(maps.sum(1, keepdims=True), len(parts), 1) if parts else None)


def test_a_sum_that_rounding_moves_far_from_its_exact_part_is_told() -> None:
    [note] = rounded(view("uint8"))
    assert (note.code, note.field) == ("rounded", "options.precision")
    assert "View “why”: in precision uint8 the patches of a map sum to up to 5.8 logit more or less" in note.text
    assert "exact (at most 15.8); ask for float16" in note.text


def test_what_is_precise_or_sums_to_nothing_needs_no_note() -> None:
    assert rounded(view("float16")) == ()
    assert rounded(view("float32")) == ()
    assert rounded(view("uint8", parts=())) == ()
    assert rounded(view("uint8", quantity=Quantity("fall of log p", "nats", signed=True))) == ()
