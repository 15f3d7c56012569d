"""What a row's total splits into: in words on pages, in tables and in exports, and nowhere where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llava_viewer.cli.inspect import summary, summary_text
from llava_viewer.export.numbers import write_npz
from llava_viewer.export.shown import show
from llava_viewer.look.units import Unit
from llava_viewer.pages.assemble import build_report
from llava_viewer.pages.report import render_report
from support.several import CONTRIBUTION, PARTS, make_signed, make_split
from support.synthetic import make_record

NBSP = "\u00a0"


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((14.64573, 0.50332, 1.48321, 1.0103), f"17.6{NBSP}logit: image 14.6, prompt 0.5, answer 1.5, itself 1.0"),
        ((-0.02, 0.0512, 0.0, 1e-5), f"0.0312{NBSP}logit: image −0.0200, prompt 0.0512, answer 0.0000, itself 0.0000"),
        ((100.0, -100.0, 0.0, -0.2), f"0{NBSP}logit: image 100, prompt −100, answer 0, itself 0"),
        ((0.0, 0.0, 0.0, 0.0), f"0{NBSP}logit: image 0, prompt 0, answer 0, itself 0"),
        ((1e30, 0.0, 0.0, 0.0), f"1.00e30{NBSP}logit: image 1.00e30, prompt 0, answer 0, itself 0"),
    ],
)  # fmt: skip
def test_a_split_is_one_line_with_equal_decimals(numbers: tuple[float, ...], text: str) -> None:
    assert Unit(CONTRIBUTION).split(PARTS, numbers) == f"Adds up to {text}"


def test_a_report_has_a_line_for_each_row_of_such_a_view_alone() -> None:
    record = make_split()
    attention, split, whole = build_report(record).views
    unit = Unit(CONTRIBUTION)
    assert all(not frame.split for frame in attention.slots[0].frames)
    for frame, row in zip(split.slots[0].frames, record.views["split"].parts.tolist(), strict=True):
        assert frame.split == unit.split(PARTS, row)
    assert whole.slots[0].frames[0].split == unit.split(PARTS, record.views["whole"].parts.tolist())
    page = render_report(record)
    # Each line stands in the card for pages without the script, and beside its map for the script.
    for row in record.views["split"].parts.tolist():
        assert page.count(unit.split(PARTS, row)) == 2
    for other in (make_signed(), make_record(reductions=("layers_heads",))):
        plain = render_report(other)
        assert 'data-split="' not in plain
        assert 'id="split"' not in plain


def test_inspect_tells_the_parts_of_each_row() -> None:
    record = make_split()
    found = summary(record, "run.npz", 1)
    assert found["views"][0]["splits"] == []
    rows = found["views"][1]["splits"]
    assert [row["token"] for row in rows] == [query.token for query in record.queries]
    assert list(rows[2]["parts"]) == list(PARTS)
    np.testing.assert_allclose([[*row["parts"].values()] for row in rows], record.views["split"].parts, rtol=1e-6)
    assert [row["token"] for row in found["views"][2]["splits"]] == [None]
    json.dumps(found, allow_nan=False)
    text = summary_text(found)
    for row in record.views["split"].parts.tolist():
        assert Unit(CONTRIBUTION).split(PARTS, row).replace(NBSP, " ") in text
    assert "parts of" not in summary_text(summary(make_signed(), "run.npz", 1))


def test_npz_exports_carry_them(tmp_path: Path) -> None:
    record = make_split()
    for view in ("split", "whole"):
        shown = show(record, view=view)
        write_npz(shown, tmp_path / "numbers.npz")
        with np.load(tmp_path / "numbers.npz", allow_pickle=False) as read:
            about = json.loads(str(read["about"]))
            assert about["parts"] == list(PARTS)
            np.testing.assert_array_equal(read["parts"], np.atleast_2d(record.views[view].parts))
            assert "shares" not in read.files
    write_npz(show(record, view="layers_heads"), tmp_path / "attention.npz")
    with np.load(tmp_path / "attention.npz", allow_pickle=False) as read:
        assert "parts" not in read.files
