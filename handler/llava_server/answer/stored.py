"""Finished views as the record holds them: maps of patches quantised, numbers of text as they are.

Flow: `ReducedView` on the host -> `View` of patches, or `TextView` of tokens.
"""

from __future__ import annotations

import numpy as np

from llava_server.ask.methods import declared, quantity_of
from llava_server.attend.rows import RowLayout
from llava_server.look.reduce import ReducedView
from llava_wire.codes.quantize import Stored, written
from llava_wire.errors import RequestError
from llava_wire.grids import Grid, runs_of
from llava_wire.schema import MethodFacts, Note, TextFacts, ViewFacts
from llava_wire.view import TextView, View

IMAGE_PART = "image"
"""What methods call the part of a row's total that its patches account for."""
_MUCH = 0.05
"""Of the largest such part; what less is off is no more than other roundings are."""


def stored(view: ReducedView, precision: str, steps: tuple[int, ...], grids: tuple[Grid, ...]) -> View:
    """A view of patches in the precision that was asked for.

    Raises:
        RequestError: "internal", maps that do not fit their quantity.
    """
    plan = view.plan
    has_heads = declared(plan.method).traits.get("heads", True)
    quantity = quantity_of(plan.method, plan.parameters)
    facts = ViewFacts(
        name=plan.name,
        reduction=plan.reduction.name,  # type: ignore[arg-type]
        axes=plan.axes,
        layers=plan.layers if has_heads else (),
        heads=plan.heads if has_heads else (),
        pairs=plan.pairs,
        head_set=plan.head_set,
        steps=steps if plan.reduction.over_steps else (),
        precision=precision,  # type: ignore[arg-type]
        encoding=written(precision, quantity),
        error_bound=0.0,
        method=MethodFacts(plan.method, dict(plan.parameters)),
        quantity=quantity,
        parts=view.names,
    )
    try:
        return View.of(facts, view.maps, view.shares, grids, view.parts, view.separators)
    except ValueError as error:
        raise RequestError("internal", f"{plan.field}.method", f"{error}; method {plan.method!r} made them") from error


def rounded(view: View) -> tuple[Note, ...]:
    """A note where rounding moves the sum of a map away from the part "image", which is exact, by much.

    Many patches near 0 are each rounded to the same code, so that what they leave adds up.
    """
    if not view.quantity.additive or IMAGE_PART not in view.facts.parts or view.parts is None:
        return ()
    exact = view.parts[..., view.facts.parts.index(IMAGE_PART)].astype(np.float64)
    off = float(np.abs(view.patches_float().sum(-1, dtype=np.float64) - exact).max(initial=0.0))
    largest = float(np.abs(exact).max(initial=0.0))
    if off <= _MUCH * largest:
        return ()
    text = (
        f"View “{view.name}”: in precision {view.facts.precision} the patches of a map sum to up to {off:.2g} "
        f"{view.quantity.unit} more or less than its part {IMAGE_PART!r}, which is exact (at most {largest:.3g}); ask "
        "for float16 where sums matter."
    )
    return (Note("rounded", "options.precision", text),)


def text_of(view: ReducedView, layout: RowLayout) -> TextView:
    """A view of text, in float32 whatever the maps' precision is: it has few numbers.

    Raises:
        RequestError: "internal", numbers that the quantity cannot have, or of words after their row.
    """
    plan = view.plan
    assert not isinstance(view.maps, Stored), "only maps of patches are folded into blocks"
    has_heads = declared(plan.method).traits.get("heads", True)
    facts = TextFacts(
        name=plan.name,
        layers=plan.layers if has_heads else (),
        heads=plan.heads if has_heads else (),
        pairs=plan.pairs,
        head_set=plan.head_set,
        method=MethodFacts(plan.method, dict(plan.parameters)),
        quantity=quantity_of(plan.method, plan.parameters),
        columns=runs_of(layout.words.tolist()),
    )
    try:
        return TextView.of(facts, view.maps, layout.positions.tolist())
    except ValueError as error:
        raise RequestError("internal", f"{plan.field}.method", f"{error}; method {plan.method!r} made them") from error
