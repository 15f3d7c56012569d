"""Which rows a record shows, and what must be said about them.

Flow: a finished item and the number of its tokens -> the query table -> the steps that a mean takes -> notes on rows
that ended early or could not reach the picture.
"""

from __future__ import annotations

from dataclasses import replace

from llava_server.attend.rows import RowLayout
from llava_server.look.reduce import Reduced
from llava_server.run.batch import BatchItem
from llava_wire.choose import ordinary_rows
from llava_wire.schema import Note, Query, Token


def query_table(item: BatchItem, count: int) -> tuple[Query, ...]:
    """The query table: answer rows first, then the question's text tokens."""
    options, length = item.plan.options, len(item.prompt.ids)
    rows: list[Query] = []
    if options.rows != "prompt":
        steps = range(count) if options.steps == "all" else [step for step in options.steps if step < count]
        rows += [Query("answer", step, length - 1 + step, step) for step in steps]
    if options.rows != "answer":
        rows += [Query("prompt", position, position, 0) for position in item.prompt.question]
    return tuple(rows)


def with_last_step(item: BatchItem, count: int) -> tuple[BatchItem, tuple[Note, ...]]:
    """The same item asking for the last of its `count` steps, and the note that says so."""
    steps, last = item.plan.options.steps, count - 1
    options = replace(item.plan.options, steps=(last,))
    asked = ", ".join(map(str, steps))
    text = f"This answer ended at step {last}, before the steps asked for ({asked}); its last step is shown instead."
    return replace(item, plan=replace(item.plan, options=options)), (Note("steps-ended", "options.steps", text),)


def mean_steps(item: BatchItem, queries: tuple[Query, ...], tokens: tuple[Token, ...]) -> tuple[int, ...]:
    """The steps that reduction "all" averages: a list is taken at its word, "all" takes the ordinary rows."""
    named = item.plan.options.steps != "all"
    taken = queries if named else [queries[place] for place in ordinary_rows(queries, tokens)]
    return tuple(query.step for query in taken if query.kind == "answer")


def out_of_sight(reduced: Reduced, layout: RowLayout) -> tuple[Note, ...]:
    """A note when layers with a window of their own could not see all of the picture: 0 there means out of reach."""
    after = layout.positions > max(
        layout.places
    )  # rows before the end of the picture see less of it without any window
    layers: list[int] = []
    cut = blind = 0
    for group, visible in reduced.sights.items():
        if visible is None:
            continue
        seen = visible[after.to(visible.device)][:, layout.image]  # [row, patch]
        hidden = int((~seen.all(1)).sum())
        if hidden:
            layers += group
            cut, blind = max(cut, hidden), max(blind, int((~seen.any(1)).sum()))
    if not layers:
        return ()
    listed = ", ".join(map(str, sorted(layers)))
    return (
        Note(
            "window",
            "model",
            f"Layers {listed} read only the latest tokens: for {cut} of {int(after.sum())} rows they could not "
            f"see all of the image, for {blind} none of it. A patch out of reach counts as 0.",
        ),
    )
