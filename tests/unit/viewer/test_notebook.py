"""Records in notebooks: overlays lie on the picture, the report stands in a frame that cannot reach the notebook."""

from __future__ import annotations

import base64
import re

import numpy as np
import pytest

from llava_viewer import notebook
from llava_viewer.look import colormap
from llava_viewer.pages.report import ReportTooLargeError, render_report
from llava_wire import Record, record
from llava_wire.system import display
from support.golden import HOSTILE, hostile_record
from support.synthetic import make_record, with_geometry


def test_an_overlay_has_the_pictures_size_and_the_maps_colours() -> None:
    run = make_record(pairs=((1, 2),))
    picture = run.overlay(2, view="pairs", mode="map", palette="viridis")
    assert picture.size == (256, 192)
    pixels = np.asarray(picture).astype(int)
    expected = colormap.lookup("viridis", (run.views["pairs"].on_grid()[2, 0] / 255) ** 2).astype(int)
    for (row, col), rect in zip(np.ndindex(8, 8), run.geometry.patch_rects().reshape(-1, 4), strict=True):
        x, y = (rect[0] + rect[2]) / 2, (rect[1] + rect[3]) / 2
        assert np.abs(pixels[int(y), int(x)] - expected[row, col]).max() <= 1
    figure = run.overlay(2, view="pairs", legend=True, width_mm=60, dpi=150)
    assert figure.width == pytest.approx((60 / 25.4 + 6 / 72) * 150, abs=1)


def test_what_an_overlay_cannot_show_is_refused() -> None:
    run = make_record()
    with pytest.raises(ValueError, match="overlay: got 'colour', expected mode, palette"):
        run.overlay(0, colour="red")
    with pytest.raises(ValueError, match="token: got 99, expected 0, 1"):
        run.overlay(99)
    with pytest.raises(ValueError, match="palette: got 'jet', expected cividis"):
        run.overlay(0, palette="jet")


def test_padding_outside_the_picture_is_cut_off() -> None:
    from llava_wire.geometry import Preprocess

    run = make_record(width_px=120, height_px=60, with_picture=False)
    padded = Preprocess(patch_px=12, pad_to_square=True, shortest_edge=96, crop=(96, 96)).plan(120, 60)
    wide = with_geometry(run, padded)
    assert wide.overlay(0).size == (120, 60)


def test_the_report_stands_in_a_frame_that_cannot_reach_the_notebook() -> None:
    run = hostile_record()
    html = run._repr_html_()
    assert html is not None
    assert HOSTILE not in html
    assert re.findall(r'sandbox="([^"]*)"', html) == ["allow-scripts allow-downloads"]
    (address,) = re.findall(r'src="data:text/html;charset=utf-8;base64,([^"]*)"', html)
    assert base64.b64decode(address).decode("utf-8") == render_report(run)


def test_a_report_that_is_too_large_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Record) -> str:
        raise ReportTooLargeError("report: got <30 MB>, expected 25 MB")

    monkeypatch.setattr(notebook, "render_report", refuse)
    assert notebook.html(make_record()) == "<p>report: got &lt;30 MB&gt;, expected 25 MB</p>"


def test_without_a_package_that_draws_a_record_stays_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    assert display.display() is notebook
    monkeypatch.setattr(record, "display", lambda: None)
    run = make_record()
    assert run._repr_html_() is None
    with pytest.raises(ImportError, match=r"expected one with the entry point 'llava_gaze\.display'"):
        run.overlay(0)
    assert repr(run) == (
        "<Record of synthetic: 'A red circle, next to a blue square.', 12 tokens, "
        "views 'layers_heads', 'none', 'heads', 'all'>"
    )
