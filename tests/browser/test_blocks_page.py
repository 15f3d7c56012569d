"""A report whose maps are stored in blocks: the page's script draws what the record's own reader gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser.test_report_page import choose, settle, shown_maps

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


def board(page: Any) -> str:
    """What the board shows when the page is done with it."""
    settle(page)
    page.locator(".finding[aria-busy=false]").wait_for()
    found: str = page.evaluate("document.querySelector('#board').toDataURL()")
    return found


def test_a_large_board_is_that_of_the_last_choice(show: Show, tmp_path: Path) -> None:
    """More maps than are drawn at once with the stage: what is chosen in haste is what stands there in the end."""
    record = make_record(reductions=("none",), layers=17, heads=16, grid=8, patch_px=12, precision="blocks")
    path = tmp_path / "run.html"
    path.write_text(render_report(record), encoding="utf-8")
    alone = {token: board(show(path, f"#t={token}&v=none&l=3&h=4")) for token in (1, 2, 7)}
    assert len(set(alone.values())) == 3
    page = show(path, "#t=7&v=none&l=3&h=4")
    assert board(page) == alone[7]
    page.evaluate("for (const token of [1, 2, 1, 7, 2]) document.querySelector(`.tok[for=t${token}]`).click()")
    assert board(page) == alone[2]
    likeness = page.locator("#headlist button").first.inner_text()
    assert likeness.split() == ["L3", "H4", "1.00"], "the list is of the word that is shown"
    mark = page.locator("#boardlines .chosen")
    before = mark.bounding_box()
    page.select_option("#pick-head select", "9")
    assert board(page) == alone[2], "another head is another mark on the same board"
    assert mark.count() == 1
    assert mark.bounding_box()["x"] > before["x"]
    page.locator("label[for=s-shared]").click()
    assert board(page) != alone[2]
    page.locator("label[for=s-token]").click()
    assert board(page) == alone[2]


def test_the_image_is_in_sight_under_what_is_said_of_its_maps(show: Show, tmp_path: Path) -> None:
    words = tuple(f" word{number}" for number in range(130))
    record = make_record(
        reductions=("none",), width_px=600, height_px=400, layers=3, heads=3, words=words, precision="blocks"
    )
    path = tmp_path / "run.html"
    path.write_text(render_report(record), encoding="utf-8")
    page = show(path, viewport={"width": 1280, "height": 720})
    settle(page)
    box = page.locator("#stage").bounding_box()
    assert (720 - box["y"]) / box["height"] >= 0.9
    page.get_by_text("More about these maps").click()
    assert page.get_by_text("stored in blocks").is_visible()
