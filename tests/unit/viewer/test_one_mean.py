"""What a mean over an answer takes is decided once: record, report, list of runs, comparison, exports, inspect."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llava_viewer import export
from llava_viewer.cli.inspect import summary
from llava_viewer.look.rows import answer_rows, first_row, question_rows
from llava_viewer.look.wording import percent
from llava_viewer.pages.assemble import build_report
from llava_viewer.pages.compare import Pick, build_comparison
from llava_wire import Record
from llava_wire.choose import mean_image_share, ordinary_rows
from llava_wire.schema import Query
from support.pixels import decoded
from support.synthetic import make_record

QUESTION = (Query("prompt", 67, 67, 0), Query("prompt", 68, 68, 0))


def with_shares(record: Record, shares: list[float]) -> Record:
    """The record with other image shares per row in every view that has rows."""
    views = {}
    for name, view in record.views.items():
        if "query" in view.axes:
            changed = view.shares.copy()
            changed[..., 1] = np.reshape(np.float32(shares), (-1, *[1] * (changed.ndim - 2)))
            view = replace(view, shares=changed)
        views[name] = view
    return replace(record, views=views)


def asked(record: Record, first: int, queries: tuple[Query, ...]) -> Record:
    """The record with other queries, in the place of those from `first` on."""
    return replace(record, facts=replace(record.facts, queries=(*record.queries[:first], *queries)))


def end_alone() -> Record:
    """An answer of the end token alone, with two rows of the question: three rows of 0.3, 0.9 and 0.8 on the image."""
    record = make_record(words=("A", " red"), reductions=("layers_heads", "none"))
    end = replace(record.facts.queries[0], token=2)
    record = asked(record, 0, (end, *QUESTION))
    return with_shares(record, [0.3, 0.9, 0.8])


RECORDS = {
    "ordinary": (with_shares(make_record(words=("A", " red")), [0.5, 0.3, 0.9]), [0, 1]),
    "end alone": (end_alone(), [0]),
    "with questions": (with_shares(asked(make_record(words=("A", " red")), 1, QUESTION), [0.5, 0.8, 0.9]), [0]),
    "questions alone": (with_shares(asked(make_record(words=("A",)), 0, QUESTION), [0.5, 0.7]), [0, 1]),
}


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("view", ["layers_heads", "none"])
def test_one_rule_everywhere(name: str, view: str) -> None:
    record, taken = RECORDS[name]
    assert ordinary_rows(record.queries, record.tokens) == taken
    chosen = record.views[view]
    share = float(chosen.shares[taken][..., 1].mean())
    maps = chosen.maps_float()
    heat = maps.reshape(len(maps), -1, *maps.shape[-2:])[taken].mean((0, 1))
    assert mean_image_share(record.facts, chosen) == pytest.approx(share)
    assert np.allclose(record.map(view=view), heat, atol=1e-7)
    panel = next(one for one in build_report(record).views if one.name == view)
    assert panel.mean_share == panel.slots[0].mean_share == percent(share)
    facts = next(one for one in summary(record, "r.npz", 1)["views"] if one["name"] == view)
    assert facts["image_share"] == pytest.approx(share)
    shown = export.show(record, view=view)
    assert [item.query for item in shown.ordinary()] == taken
    choice = build_comparison([Pick(record, "a", view)] * 2, title=None, embed_image=False).runs[0].choices[0]
    assert choice.image_share == percent(share)
    assert float(choice.maximum) == pytest.approx(float(heat.max()), rel=1e-3)
    assert np.unravel_index(decoded(choice.uri).argmax(), heat.shape) == np.unravel_index(heat.argmax(), heat.shape)
    first = first_row(record, (*answer_rows(record), *question_rows(record)))
    queries = [record.queries[row] for row in taken]
    assert first in [f"{'t' if query.kind == 'answer' else 'q'}{query.token}" for query in queries]
