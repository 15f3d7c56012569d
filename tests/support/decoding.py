"""What a decoder in another language must have read out of a record, compared with this project's own reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from llava_wire.grids import Grid
from llava_wire.plain import to_plain
from llava_wire.record import Record

DATA = Path(__file__).parents[1] / "data"
DECODER = (DATA / "decoder.js").read_text("utf-8")
KEPT = sorted((DATA / "records").glob("v*/*.npz"))


def check_decoded(found: dict[str, Any], record: Record) -> None:
    """Compares what tests/data/decoder.js gives with a record, number by number."""
    facts = found["facts"]
    assert facts["answer"] == record.answer
    assert facts["prompt"]["text"] == record.facts.prompt.text
    assert facts["prompt"].get("separators", []) == [list(run) for run in record.facts.prompt.separators]
    assert facts["prompt"]["ids"] == list(record.facts.prompt.ids)
    assert facts["images"] == to_plain(record.facts.images)
    assert facts["grids"] == to_plain(record.grids)
    assert [token["text"] for token in facts["tokens"]] == [token.text for token in record.tokens]
    assert found["positions"] == [_positions(grid) for grid in record.grids]
    rects = record.patch_rects().ravel().tolist()
    assert found["rects"] == rects
    assert found["expected"] == rects, "the steps give the same rectangles, to the last bit"
    assert [view["name"] for view in found["views"]] == list(record.views)
    for read, view in zip(found["views"], record.views.values(), strict=True):
        assert (read["axes"], read["shape"]) == (list(view.axes), [*view.lead, view.patches])
        assert read["quantity"] == to_plain(view.quantity)
        np.testing.assert_array_equal(np.float32(read["values"]), view.patches_float().ravel())
        assert (read["shares"] is None) == (view.shares is None)
        if view.shares is not None:
            np.testing.assert_array_equal(np.float32(read["shares"]), view.shares.ravel())
        assert (read["separators"] is None) == (view.separators is None)
        if view.separators is not None:
            np.testing.assert_array_equal(np.float32(read["separators"]), view.separators.ravel())
        assert read["partNames"] == list(view.facts.parts)
        assert (read["parts"] is None) == (view.parts is None)
        if view.parts is not None:
            np.testing.assert_array_equal(np.float32(read["parts"]), view.parts.ravel())
    assert [text["name"] for text in found["texts"]] == list(record.texts)
    for read, text in zip(found["texts"], record.texts.values(), strict=True):
        assert read["positions"] == list(text.positions)
        assert read["quantity"] == to_plain(text.facts.quantity)
        np.testing.assert_array_equal(np.float32(read["values"]), text.values.ravel())


def _positions(grid: Grid) -> list[int]:
    return [position for start, count in grid.positions for position in range(start, start + count)]
