"""What lies on separators, in reports, tables and `inspect`: a part of its own beside the prompt's."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llava_viewer.cli.inspect import summary, summary_text
from llava_viewer.export.numbers import write_npz
from llava_viewer.export.shown import show
from llava_viewer.look.frames import GRID_PARTS, share_parts
from llava_viewer.look.rows import token_texts
from llava_viewer.look.wording import percent
from llava_viewer.one_grid import on_one_grid
from llava_viewer.pages.assemble import build_report
from llava_wire.record import Record
from support.several import make_separated, make_several


@pytest.fixture(scope="module")
def record() -> Record:
    record = make_separated()
    return replace(record, views={"attention": record.views["attention"], "signed": record.views["signed"]})


def test_a_report_splits_rows_into_separators_too(record: Record) -> None:
    report = build_report(record)
    assert report.share_parts == share_parts(5, alone=False)
    assert [name for _, name in report.share_parts] == [
        "first token", "this grid", "prompt", "answer", "separators", "other grids",
    ]  # fmt: skip
    split = record.views["attention"].split()
    assert split is not None
    for panel in report.views:
        if panel.label != "attention":
            assert panel.split == 4
            continue
        assert panel.split == 5
        for row, frame in enumerate(panel.slots[1].frames):  # layer 0, head 0
            parts = split[row, 0, 0]
            assert [one.text for one in frame.segments][2:5] == [percent(float(part)) for part in parts[2:]]
            assert float(frame.segments[-1].until) == 100
            np.testing.assert_allclose([float(one) for one in frame.numbers.split()][-1], parts[4], rtol=1e-6)


def test_a_page_splits_all_rows_alike(record: Record) -> None:
    view = record.views["attention"]
    other = replace(view, facts=replace(view.facts, name="own method"), separators=None)
    report = build_report(replace(record, views={**record.views, "own method": other}))
    assert report.share_parts == GRID_PARTS
    assert any("tokens of the image are in no grid" in note for note in report.notes)
    assert not any("in no grid" in note for note in build_report(record).notes)
    assert not any("in no grid" in note for note in build_report(make_several()).notes)


def test_a_table_has_a_column_for_separators(record: Record, tmp_path: Path) -> None:
    write_npz(show(record, layer=1, head=2, grid="detail"), tmp_path / "n.npz")
    with np.load(io.BytesIO((tmp_path / "n.npz").read_bytes())) as read:
        about = json.loads(str(read["about"]))
        assert about["shares"] == ["bos", "image", "prompt", "answer", "separators"]
        view = record.views["attention"]
        np.testing.assert_allclose(read["shares"][:, 4], view.separators[:, 1, 2])
        np.testing.assert_allclose(read["shares"][:, 2], view.shares[:, 1, 2, 2] - view.separators[:, 1, 2], atol=1e-7)


def test_a_composite_keeps_what_lies_on_separators(record: Record) -> None:
    whole, view = (
        on_one_grid(record, "image 1, composite") if len(record.grids) == 3 else record,
        record.views["attention"],
    )
    np.testing.assert_array_equal(whole.views["attention"].separators, view.separators)


def test_inspect_tells_separators(record: Record) -> None:
    found = summary(record, "run.npz", 1)
    view = record.views["attention"]
    assert found["separators"] == 6
    apart = view.separators.mean((1, 2), dtype="float64")
    np.testing.assert_allclose([token["separator_share"] for token in found["tokens"]], apart, rtol=1e-6)
    assert found["views"][0]["separator_share"] == pytest.approx(float(apart[:-1].mean()), rel=1e-6)
    assert found["views"][1]["separator_share"] is None
    text = summary_text(found)
    assert "42 of them image, 6 separators" in text
    assert f"; separators {apart[:-1].mean():.3f}" in text
    [line] = [line for line in text.splitlines() if line.startswith("token")]
    assert line.split("image share")[1].split() == ["separators", "text"]
    plain = summary(make_several(), "run.npz", 1)
    assert (plain["separators"], plain["tokens"][0]["separator_share"]) == (0, None)
    assert "separators" not in summary_text(plain)


def test_words_are_not_called_by_the_piece_of_a_separator(record: Record) -> None:
    names = token_texts(record)
    assert [place for place, name in enumerate(names) if name == "(separator)"] == [33, 37, 41, 47, 51, 55]
