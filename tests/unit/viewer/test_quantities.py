"""Views of other quantities than attention: their own words, scale and palette; nothing that only shares can say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llava_doors.door import METHODS
from llava_viewer.cli.inspect import summary, summary_text
from llava_viewer.cli.main import main
from llava_viewer.export.animate import frames
from llava_viewer.export.drawing import Cells, Ramp, Text
from llava_viewer.export.figure import figure
from llava_viewer.export.numbers import write_csv, write_npz
from llava_viewer.export.sheet import contact_sheet
from llava_viewer.export.shown import Look, show
from llava_viewer.export.toolkit import export_overlays
from llava_viewer.look import colormap
from llava_viewer.look.units import Unit, method_text
from llava_viewer.look.wording import amount
from llava_viewer.pages.assemble import build_report
from llava_viewer.pages.compare import Pick, render_compare
from llava_viewer.pages.index import write_index
from llava_viewer.pages.report import render_report
from llava_wire import encode
from llava_wire.quantity import ATTENTION, Quantity
from llava_wire.schema import MethodFacts
from support.pixels import decoded
from support.several import CONTRIBUTION, SURPRISE, make_several, make_signed
from support.synthetic import make_record

NBSP = "\u00a0"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.1234, "0.123"), (-0.5, "−0.5"), (12345.6, "12300"), (1e-3, "0.001"), (1.235e-5, "1.24e-5"),
     (3e7, "3.00e7"), (99.96, "100"), (999_999, "1.00e6"), (-2e-9, "−2.00e-9"), (2.0, "2")],
)  # fmt: skip
def test_amounts_have_three_figures(value: float, text: str) -> None:
    assert amount(value) == text


def test_values_have_the_unit_of_their_quantity() -> None:
    share, signed, counts = Unit(ATTENTION), Unit(CONTRIBUTION), Unit(SURPRISE)
    assert (share.text(0.021), share.ends(0.5)) == (f"2.1{NBSP}%", ("0", f"50{NBSP}%"))
    assert (signed.text(0.5), signed.text(-0.5), signed.text(0)) == (
        f"+0.5{NBSP}logit",
        f"−0.5{NBSP}logit",
        f"0{NBSP}logit",
    )
    assert signed.scale(2) == f"−2{NBSP}logit to +2{NBSP}logit"
    assert (counts.text(3.21), counts.ends(4)) == (f"3.21{NBSP}nats", ("0", f"4{NBSP}nats"))
    assert Unit(Quantity("count")).text(7) == "7"
    assert [one.palette("viridis") for one in (share, counts, signed)] == ["viridis", "viridis", "difference"]
    assert "share of attention" in share.per_patch
    assert "contribution in logit per patch; orange above 0" in signed.per_patch
    assert method_text(MethodFacts(), ATTENTION) == "attention (share)"
    assert method_text(MethodFacts("toy", {"layer": 1}), CONTRIBUTION) == "contribution (logit), method toy: layer 1"


def test_signed_maps_lie_around_the_middle_of_the_scale() -> None:
    heat = np.float32([[-2, 0], [1, 2]])
    unit = Unit(CONTRIBUTION)
    np.testing.assert_allclose(unit.levels(heat, 2), [[0, 0.5], [0.75, 1]])
    np.testing.assert_allclose(unit.opacity(unit.levels(heat, 2))[0], [0.76, 0], atol=1e-9)
    grey, peaks = unit.grey(heat)
    assert grey.tolist() == [[1, 128], [192, 255]]
    assert peaks == 2
    assert np.abs(unit.values(grey, peaks) - heat).max() <= 2 / 127 / 2 + 1e-6
    assert unit.brightest(np.float32([[-3, 1], [2, 0]])) == (0, 0)
    assert unit.grey(np.zeros((2, 2), np.float32))[0].tolist() == [[128, 128], [128, 128]]


def test_a_report_says_of_a_signed_view_only_what_it_can() -> None:
    record = make_signed()
    report = build_report(record)
    attention, signed, answer, counts = report.views
    assert (attention.share, signed.share, signed.signed, counts.share, counts.signed) == (
        True,
        False,
        True,
        False,
        False,
    )
    frame = signed.slots[0].frames[3]
    assert (frame.image_share, frame.uniform_text, frame.times_text, frame.segments, frame.warnings) == (
        "",
        "",
        "",
        (),
        (),
    )
    mean = record.views["signed"].maps_float().mean((1, 2))[3]
    row, col = divmod(int(np.abs(mean).argmax()), 8)
    assert (row, col) == (3, 3)
    assert frame.top[0].where == "3, 3"
    assert frame.top[0].share == frame.peak_text == Unit(CONTRIBUTION).text(float(mean[3, 3]))
    assert frame.peak_text.startswith("−")
    shown = decoded(frame.uri).astype(np.float32)
    largest = np.abs(mean).max()
    np.testing.assert_allclose((shown - 128) / 127 * largest, mean, atol=largest / 250)
    assert answer.slots[0].frames[0].row_key == ""
    assert counts.slots[0].frames[0].maximum_text.endswith(f"{NBSP}nats")
    shares = [view.share for view in report.views].index(True)
    assert all(row.levels[1] == row.levels[shares] for row in report.rows), "its bars are those of the view of shares"
    assert {fact.label: fact.value for fact in report.summary}["causal effect"] == "passed; n 24; control 0.02"


def test_the_pages_text_names_method_and_quantity() -> None:
    page = render_report(make_signed())
    assert "contribution (logit), method toy_contribution: layer 1, rate 0.5" in page
    assert "surprise (nats), method toy_surprise" in page
    about = re.search(r'data-name="signed".*?<label', page, re.DOTALL)
    assert about is not None
    assert 'data-signed="1"' in about[0]
    assert 'data-unit="logit"' in about[0]
    plain = render_report(make_record(reductions=("layers_heads",)))
    assert "data-quantity" not in plain
    assert "Method and quantity" not in plain
    assert "not tested" in plain


def test_a_page_says_in_a_sentence_what_its_methods_maps_are_and_nothing_that_only_shares_have() -> None:
    whole = make_signed()
    shares = {name: view for name, view in whole.views.items() if view.quantity.is_share}
    signed = next(view for view in whole.views.values() if view.quantity.signed)
    own = replace(signed, facts=replace(signed.facts, method=MethodFacts("contributions")))
    sentence, even, other = METHODS.known()["contributions"].summary, "<b>Even spread</b>", "<b>Other methods</b> give"
    alone = unescape(render_report(replace(whole, views={own.name: own})))
    assert sentence in alone
    assert "<b>A map</b> gives each patch a number" in alone
    assert even not in alone
    assert other not in alone
    assert "one row of attention" not in alone
    both = unescape(render_report(replace(whole, views={**shares, own.name: own})))
    assert sentence in both
    assert even in both
    assert other in both
    assert "one row of attention" in both
    plain = render_report(replace(whole, views=shares))
    assert other not in plain
    assert even in plain


def test_many_signed_maps_come_as_an_atlas() -> None:
    report = build_report(make_signed(many=40))
    assert report.views[1].atlas is not None
    assert len(report.views[1].slots) == 1


def middle(marks: tuple[object, ...]) -> np.ndarray:
    """The colours of a figure's cells, [row, col, 4] uint8."""
    [cells] = [mark for mark in marks if isinstance(mark, Cells)]
    return cells.rgba


@pytest.mark.parametrize("mode", ["map", "heat", "spotlight"])
def test_figures_of_signed_maps_have_two_colours_and_both_ends(mode: str) -> None:
    record = make_signed()
    shown = show(record, view="signed", look=Look(mode=mode, palette="inferno"))
    item = shown.item(3)
    drawing = figure(shown, item)
    texts = [mark.text for mark in drawing.marks if isinstance(mark, Text)]
    unit, largest = Unit(CONTRIBUTION), float(np.abs(item.heat).max())
    for text in (unit.text(-largest), "0", unit.text(largest), unit.per_patch, f"largest {item.peak_text}"):
        assert text in texts
    assert not any("even spread" in text or "on the image" in text for text in texts)
    rgba = middle(drawing.marks).astype(int)
    levels = np.rint(unit.levels(item.heat, largest) * 255) / 255
    np.testing.assert_array_equal(rgba[..., :3], colormap.lookup("difference", levels))
    assert rgba[3, 3, 3] > 150, "the strongest patch is seen, below 0 too"
    [ramp] = [mark for mark in drawing.marks if isinstance(mark, Ramp)]
    np.testing.assert_array_equal(ramp.colours, colormap.stops("difference"))


def test_sheets_films_overlays_and_tables_of_signed_maps(tmp_path: Path) -> None:
    record = make_signed()
    shown = show(record, view="signed")
    assert "largest −" in " ".join(mark.text for mark in contact_sheet(shown).marks if isinstance(mark, Text))
    assert len(frames(shown, shown.items[:2])) == 2
    write_npz(shown, tmp_path / "signed.npz")
    with np.load(tmp_path / "signed.npz", allow_pickle=False) as read:
        assert "shares" not in read.files
        np.testing.assert_array_equal(read["maps"], [item.heat for item in shown.items])
        about = json.loads(str(read["about"]))
    assert (about["quantity"]["name"], about["quantity"]["signed"], about["shares"]) == ("contribution", True, [])
    with pytest.raises(ValueError, match="csv: got view 'signed' of 'contribution', expected one of shares"):
        write_csv(shown, tmp_path / "signed.csv")
    made = export_overlays(record, tmp_path / "png", view="answer", alpha=1.0)
    picture = np.asarray(Image.open(made[0]).convert("RGB")).astype(int)
    heat = record.views["answer"].maps_float()
    x0, y0, x1, y1 = record.geometry.patch_rects()[np.unravel_index(heat.argmin(), heat.shape)]
    scale = picture.shape[1] / 256
    shown_at = picture[round((y0 + y1) / 2 * scale), round((x0 + x1) / 2 * scale)]
    expected = colormap.lookup("difference", (1 + heat.min() / np.abs(heat).max()) / 2)
    assert np.abs(shown_at - expected).max() <= 2


def test_pages_of_shares_refuse_other_quantities() -> None:
    record = make_signed()
    with pytest.raises(ValueError, match="compare: got view 'signed' of 'contribution'"):
        render_compare([Pick(record, "a"), Pick(record, "b", view="signed")])


def test_an_index_shows_records_of_other_quantities(tmp_path: Path) -> None:
    record = make_signed()
    signed = {"signed": record.views["signed"]}
    (tmp_path / "run.npz").write_bytes(encode(replace(record, views=signed)))
    page = write_index(tmp_path).read_text("utf-8")
    assert page.count('<li class="run"') == 1
    assert "–" in page


def test_inspect_tells_of_grids_quantities_and_annotations() -> None:
    text = summary_text(summary(make_several(), "run.npz", 1))
    assert "tile 0,1, image 0: resize to" in text
    assert "contribution" in text
    assert "right, by the rule “contains”, expected “red circle”; tags shapes, ünïcode" in text


def test_figures_say_what_is_shown_and_nothing_is_written_before_all_kinds_are_possible(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signed, plain = make_signed(), make_record()
    for one, view, is_attention in ((signed, "signed", False), (plain, None, True)):
        shown = show(one, view=view)
        told = figure(shown, shown.item(1)).description
        assert ("Attention: where the model read from, not why it answered." in told) == is_attention
    path, out = tmp_path / "signed.npz", tmp_path / "out"
    path.write_bytes(encode(signed))
    assert main(["export", str(path), "-o", str(out), "--view", "signed", "--as", "png,csv"]) != 0
    assert "csv: got view" in capsys.readouterr().err
    assert not out.exists()
