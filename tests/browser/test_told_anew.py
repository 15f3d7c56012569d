"""What a report tells of a patch, a square or a point is of the map that is shown, also after the pointer has left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser.test_box import at
from browser.test_report_page import settle, written

from llava_eval.criteria.localization import spatial_entropy
from llava_viewer.look.wording import percent, times
from llava_wire.record import Record
from llava_wire.view import View
from support.several import make_signed
from support.synthetic import make_record

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
Show = Callable[..., Any]


@pytest.fixture(scope="module")
def record() -> Record:
    """Six heads, of which each reads another part of the image at every word."""
    made = make_record(precision="float32", reductions=("none",), seed=3)
    view = made.views["none"]
    scale = np.random.default_rng(1).uniform(0.2, 2.0, view.stored.shape[:3]).astype(np.float32)
    shares = view.shares.copy()
    shares[..., 1] *= scale
    shares[..., 2] = 1 - shares[..., 0] - shares[..., 1] - shares[..., 3]
    maps = view.maps_float().reshape(*scale.shape, -1) * scale[..., None]
    return replace(made, views={"none": View.of(view.facts, maps, shares, made.grids)})


@pytest.fixture(scope="module")
def report(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(record, tmp_path_factory.mktemp("report") / "run.html")


def with_second_view(record: Record) -> Record:
    """With one map for the whole answer, which has no usual."""
    return replace(record, views={**record.views, "all": make_record(reductions=("all",)).views["all"]})


def patch_text(heat: np.ndarray, row: int, col: int) -> str:
    own = float(heat[row, col])
    return f"Row {row}, column {col}: {percent(own)} of the attention, {times(own / heat.mean())} an even spread"


def rest_on(page: Any, record: Record, row: int, col: int) -> None:
    """The pointer goes to a patch, and then away from the image."""
    x0, y0, x1, y1 = record.geometry.patch_rects()[row, col]
    page.mouse.move(*at(page, (x0 + x1) / 2, (y0 + y1) / 2))
    expect(page.locator("#readout")).to_contain_text(f"Row {row}, column {col}: ")
    page.mouse.move(2, 2)


def test_a_left_patch_is_told_of_the_next_word_and_head(show: Show, report: Path, record: Record) -> None:
    page = show(report, "#t=4")
    settle(page)
    maps = record.maps_float()
    rest_on(page, record, 4, 4)
    expect(page.locator("#readout")).to_have_text(patch_text(maps[4].mean((0, 1)), 4, 4))
    assert page.locator("#cursor.on").count() == 0
    page.keyboard.press("n")
    expect(page.locator("#readout")).to_have_text(patch_text(maps[5].mean((0, 1)), 4, 4))
    page.keyboard.press("p")
    page.keyboard.press("]")
    page.keyboard.press("}")
    expect(page.locator("#readout")).to_have_text(patch_text(maps[4, 0, 0], 4, 4))


def test_a_left_patch_is_told_in_the_next_views_unit(show: Show, tmp_path: Path) -> None:
    record = make_signed()
    page = show(written(record, tmp_path / "run.html"), "#t=1")
    settle(page)
    rest_on(page, record, 1, 2)
    inputs = page.locator('input[name="v"]')
    for number in range(inputs.count()):
        view = record.views[inputs.nth(number).get_attribute("data-name")]
        page.locator(f"label[for=v{number}]").click()
        settle(page)
        unit = "of the attention" if view.quantity.is_share else view.quantity.unit
        expect(page.locator("#readout")).to_contain_text(unit)


def test_a_square_and_a_point_are_told_of_the_next_word(show: Show, report: Path, record: Record) -> None:
    page = show(report, "#t=2&v=none")
    settle(page)
    view = record.views["none"]
    shares, maps = view.shares[..., 1], view.maps_float()
    page.locator("#board").hover()  # its middle: L1 H1, or H1's name above it
    expect(page.locator("#pointed")).to_contain_text("H1")
    named = page.locator("#pointed").inner_text().split(":")[0]
    cell = (1, 1) if named == "L1 H1" else (0, 1)
    assert named == f"L{cell[0]} H1"

    def told(token: int) -> str:
        top = percent(float(maps[token][cell].max()))
        return f"{named}: {percent(float(shares[token][cell]))} on the image, brightest patch {top}"

    expect(page.locator("#pointed")).to_have_text(told(2))
    page.keyboard.press("n")
    expect(page.locator("#pointed")).to_have_text(told(3))
    page.focus("#scatter")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    settle(page)
    layer, head = (int(part[1:]) for part in page.locator("#scattered").inner_text().split(":")[0].split())
    for token in (3, 4):
        entropy = float(spatial_entropy(maps[token, layer, head].reshape(1, -1), (maps.shape[-2:],))[0])
        share = percent(float(shares[token, layer, head]))
        expect(page.locator("#scattered")).to_have_text(f"L{layer} H{head}: {share}, entropy {entropy:.2f}")
        page.keyboard.press("n")


@pytest.mark.parametrize("width", [320, 390])
def test_heads_fit_a_narrow_phone_and_tell_nothing_old(show: Show, report: Path, width: int) -> None:
    page = show(report, "#t=2&v=none&l=1&h=2", viewport={"width": width, "height": 640})
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator("#scatter").scroll_into_view_if_needed()
    page.focus("#scatter")
    page.wait_for_selector("#scatter circle.chosen")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#scattered")).to_contain_text("entropy")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(200)  # until the browser has seen that the points are out of sight
    page.keyboard.press("n")
    expect(page.locator("#scattered")).to_have_text("")


@pytest.mark.parametrize("js", [True, False], ids=["js", "no-js"])
def test_the_usual_is_that_of_the_chosen_head(show: Show, tmp_path: Path, record: Record, js: bool) -> None:
    page = show(written(with_second_view(record), tmp_path / "run.html"), js=js)
    settle(page)
    shares = record.views["none"].shares[:-1, ..., 1]
    usual = page.locator(".card .hint:visible", has_text="usual is")
    expect(usual).to_contain_text(f"this answer's usual is {percent(float(shares.mean()))}.")
    if not js:
        page.click("label[for=s0-6]")
        expect(usual).to_contain_text(f"this answer's usual is {percent(float(shares[:, 1, 2].mean()))}.")
        return
    page.select_option("#pick-layer select", "1")
    expect(usual).to_contain_text(f"usual is {percent(float(shares[:, 1].mean()))} in L1, mean of 3 heads.")
    page.select_option("#pick-head select", "2")
    expect(usual).to_contain_text(f"this answer's usual is {percent(float(shares[:, 1, 2].mean()))} in L1 H2.")
    page.click("label[for=v1]")
    settle(page)
    page.click("label[for=v0]")
    settle(page)
    expect(usual).to_contain_text(f"this answer's usual is {percent(float(shares.mean()))}.")
