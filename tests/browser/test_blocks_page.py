"""A report whose maps are stored in blocks: the page's script draws what the record's own reader gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser.test_report_page import choose, shown_maps

from llava_viewer.look import frames
from llava_viewer.pages.report import render_report
from support.several import make_several
from support.synthetic import make_record

Show = Callable[..., Any]


def greys(heat: np.ndarray) -> np.ndarray:
    """A map as the stage draws it: square-root codes of its own largest."""
    return np.rint(255 * np.sqrt(heat / heat.max()))


def test_single_maps_and_means_of_a_layer(show: Show, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_STATIC_FRAMES", 0)
    record = make_record(reductions=("none",), grid=10, patch_px=12, precision="blocks")
    path = tmp_path / "run.html"
    path.write_text(render_report(record), encoding="utf-8")
    assert 'data-kept="8"' in path.read_text("utf-8")
    page = show(path, "#t=5&v=none&l=1&h=2&m=map")
    for token in (5, 0, 10):
        choose(page, f"t{token}")
        (shown,) = shown_maps(page)
        np.testing.assert_allclose(shown, greys(record.map(token, layer=1, head=2)), atol=1)
    page = show(path, "#t=5&v=none&l=1&m=map")
    (shown,) = shown_maps(page)
    np.testing.assert_allclose(shown, greys(record.map(5, layer=1)), atol=1)
    assert page.locator("#pick-head").is_visible()
    assert "stored in blocks" in page.content()


def test_one_of_several_grids(show: Show, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_STATIC_FRAMES", 0)
    record = make_several()
    view = record.views["attention"]
    facts = replace(view.facts, precision="blocks")
    folded = type(view).of(facts, view.patches_float(), view.shares, view.grids)
    record = replace(record, views={"attention": folded})
    path = tmp_path / "run.html"
    path.write_text(render_report(record), encoding="utf-8")
    name = f"attention on {record.grids[2].name}"
    page = show(path, f"#t=2&v={name.replace(' ', '%20')}&l=1&h=0&m=map")
    (shown,) = shown_maps(page)
    heat = record.map(2, layer=1, head=0, grid=2)
    assert shown.shape == heat.shape
    np.testing.assert_allclose(shown, greys(heat), atol=1)
