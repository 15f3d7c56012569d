"""A report of several grids in a real browser: one grid at a time, at its place on its own picture, and no other."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from llava_viewer.look.wording import percent
from llava_viewer.notebook import html
from llava_viewer.pages.report import render_report
from llava_wire.record import Record
from support.several import make_several
from support.stage import check_map, colour_at, on_screen, settle

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
Show = Callable[..., Any]
BOTH = pytest.mark.parametrize("js", [True, False], ids=["js", "no-js"])
NAMES = ["base", "tile 0,1", "detail"]
COLOURS = ((214, 90, 60), (60, 110, 214))
"""Of the two pictures, each of one colour."""


def picture(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    PillowImage.new("RGB", (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def record() -> Record:
    record = make_several()
    files = [picture(one.width_px, one.height_px, c) for one, c in zip(record.facts.images, COLOURS, strict=True)]
    return record.with_pictures([("picture.png", data) for data in files])


@pytest.fixture(scope="module")
def report(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "run.html"
    path.write_text(render_report(record), encoding="utf-8")
    return path


def choose(page: Any, view: str, grid: int) -> None:
    """Chooses a view on a grid as a reader does, and waits for the page that it may start anew."""
    page.locator(f"fieldset[data-g=g{grid}] label", has_text=view).first.click()
    settle(page, f"{view} on {NAMES[grid]}")


@BOTH
@pytest.mark.parametrize("grid", [2, 0, 1])
def test_a_grids_map_lies_on_its_rectangles_and_no_other_does(
    show: Show, report: Path, record: Record, js: bool, grid: int
) -> None:
    page = show(report, js=js)
    choose(page, "attention", grid)
    page.click("label[for=t4], label.tok[for=t4]")
    page.click("label[for=m-map]")
    if js:
        page.wait_for_function(
            "() => document.querySelector('#t4').checked && document.querySelector('.desk .on[for=t4]')"
        )
        page.wait_for_selector("#stage[aria-busy=false]")
    check_map(page, record.geometry_of(grid), record.views["attention"].maps_float(grid)[4].mean((0, 1)))


@BOTH
@pytest.mark.parametrize("grid", [0, 1, 2])
def test_each_grid_shows_its_own_picture_and_what_is_around_it(
    show: Show, report: Path, record: Record, js: bool, grid: int
) -> None:
    page = show(report, js=js)
    choose(page, "attention", grid)
    page.click("label[for=m-photo]")
    if js:
        page.wait_for_selector("#stage[aria-busy=false]")
    geometry = record.geometry_of(grid)
    seen, colour = on_screen(page, geometry), COLOURS[record.grids[grid].image]
    x0, y0, x1, y1 = geometry.seen_rect()
    for x, y in ((x0 + 6, y0 + 6), (x1 - 6, y1 - 6), ((x0 + x1) / 2, (y0 + y1) / 2)):
        assert np.abs(colour_at(seen, x, y) - colour).max() <= 4
    rects = geometry.patch_rects()
    if rects[..., 0].min() < -10:  # padding at the sides
        assert np.abs(colour_at(seen, -8, geometry.height_px / 2) - colour).max() > 30
    unseen = page.locator(".stage:visible .hatched:visible").count()
    assert (unseen > 0) == (geometry.seen_rect() != (0, 0, geometry.width_px, geometry.height_px))
    hint = page.locator(".key:visible", has_text="cut away before the model saw it")
    assert hint.count() == (1 if unseen else 0)


@BOTH
def test_the_card_speaks_of_the_grid(show: Show, report: Path, record: Record, js: bool) -> None:
    page = show(report, js=js)
    choose(page, "attention", 2)
    share = float(record.views["attention"].maps_float(2)[1].mean((0, 1)).sum())
    page.click("label.tok[for=t1]")
    if js:
        page.wait_for_selector("#stage[aria-busy=false]")
    assert page.locator(".card .parts dt:visible").all_inner_texts() == [
        "first token", "this grid", "prompt", "answer", "other grids",
    ]  # fmt: skip
    told = page.locator(".card .parts dd:visible").inner_text().split("\n")
    numbers = [float(text.replace("%", "").replace(" ", "").strip()) for text in told]
    assert numbers[0] == pytest.approx(30, abs=0.6)
    assert numbers[1] == pytest.approx(100 * share, abs=0.6)
    assert sum(numbers) == pytest.approx(100, abs=1.5)
    ends = page.locator(".card svg.share:visible rect").evaluate_all("all => all.map(one => one.getAttribute('width'))")
    assert ends[0] == "100%"
    assert "this grid's attention lies on padding" in page.inner_text(".card")
    assert "on this grid" in page.inner_text(".about:visible")


def test_with_the_script_a_link_leads_to_a_grid_and_choices_are_kept(show: Show, report: Path) -> None:
    page = show(report, "#t=5&v=signed+on+tile+0%2C1&m=map&p=viridis")
    settle(page, "signed on tile 0,1")
    page.click("#pin-a")
    page.wait_for_function("() => location.hash.includes('pa=')")
    choose(page, "attention", 2)
    assert page.is_checked("#t5")
    assert page.is_checked("#m-map")
    assert page.is_checked("#p-viridis")
    assert "pa=" not in page.url, "what was kept lies on the grid that was left"
    assert page.inner_text("#trio") == ""
    page.evaluate("location.hash = '#t=5&v=attention on base&pa=' + encodeURIComponent('5~signed on detail~~')")
    settle(page, "attention on base")
    page.wait_for_timeout(300)
    assert page.inner_text("#trio") == "", "no map of another grid is laid on this one"
    page.keyboard.press("v")
    settle(page, "signed on base")
    for _ in range(4):
        page.keyboard.press("v")
        page.wait_for_selector("#stage[aria-busy=false]")
    settle(page, "attention on tile 0,1")


def test_with_the_script_numbers_and_figures_are_the_grids(show: Show, report: Path, record: Record) -> None:
    page = show(report, "#t=3&v=attention+on+detail")
    settle(page, "attention on detail")
    with page.expect_download() as got:
        page.click('.looks [data-save="csv"]')
    text = Path(got.value.path()).read_text("utf-8")
    rows = [line.split(",") for line in text.splitlines() if line and not line.startswith(("#", "row"))]
    rects = record.geometry_of(2).patch_rects().reshape(-1, 4)
    maps = record.views["attention"].maps_float(2)[3].mean((0, 1)).ravel()
    assert len(rows) == 9
    for row, rect, value in zip(rows, rects, maps, strict=True):
        np.testing.assert_allclose([float(cell) for cell in row[2:6]], rect, atol=1e-3)
        assert float(row[6]) == pytest.approx(value, abs=2e-3)
    assert "this grid's share" in text
    with page.expect_download() as got:
        page.click('.looks [data-save="svg"]')
    figure = Path(got.value.path()).read_text("utf-8")
    assert "is on this grid" in figure
    assert 'width="100" height="300"' in figure, "the second picture"
    page.locator("#gallery").scroll_into_view_if_needed()
    page.wait_for_selector("#gallery .plate, #gallery image[data-id]")


def test_it_works_in_a_notebooks_frame_and_without_pictures(show: Show, tmp_path: Path, record: Record) -> None:
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><title>n</title>{html(make_several())}", encoding="utf-8")
    page = show(path)
    frame = page.frames[1]
    frame.locator("fieldset[data-g=g2] label", has_text="attention").click()
    frame.wait_for_selector('#stage[aria-busy=false][data-grid="-100.0 0.0 200.0 300.0"]')
    assert frame.is_checked('input[data-name="attention on detail"]')


def test_axe_finds_nothing(
    show: Show, record: Record, tmp_path: Path, inspect_access: Callable[[Any], list[str]]
) -> None:
    path = tmp_path / "run.html"
    path.write_text(render_report(replace(record, facts=replace(record.facts, notes=()))), encoding="utf-8")
    page = show(path)
    settle(page, "attention on base")
    assert inspect_access(page) == []
    choose(page, "surprise", 2)
    assert inspect_access(page) == []


def lines_of(page: Any) -> list[str]:
    return [line.strip() for line in page.locator(".onto ol:visible li").all_inner_texts()]


@pytest.mark.parametrize("grid", [0, 2])
def test_the_card_tells_how_a_word_splits_over_images(show: Show, report: Path, record: Record, grid: int) -> None:
    told: list[list[str]] = []
    for js in (False, True):
        page = show(report, js=js)
        choose(page, "attention", grid)
        page.click("label.tok[for=t1]")
        if js:
            page.wait_for_function("() => document.querySelectorAll('#onto li').length === 4")
            page.wait_for_selector("#stage[aria-busy=false]")
        told.append(lines_of(page))
    assert told[0] == told[1]
    assert [line.split("\t")[0] for line in told[0]] == ["image 1", "base", "tile 0,1", "image 2"]
    sums = record.views["attention"].sums_by_grid()[1]  # [layer, head, grid]
    own = float(sums.mean((0, 1))[2])
    assert told[1][3].split("\t")[1] == percent(own)
    page.select_option("#pick-layer select", label="1")
    page.select_option("#pick-head select", label="2")
    says = "said => document.querySelector('#onto').innerText.includes(said)"
    page.wait_for_function(says, arg=percent(float(sums[1, 2, 2])))
    page.select_option("#pick-head select", index=0)
    one_layer = percent(float(sums[1].mean(0)[2]))
    page.wait_for_function(says, arg=one_layer)
    choose(page, "surprise", grid)
    page.wait_for_selector(".onto", state="hidden")


@BOTH
def test_only_one_view_of_one_picture_has_an_even_simpler_chooser(show: Show, tmp_path: Path, js: bool) -> None:
    """Two grids of one picture, no view of layers or heads kept apart: what the family of halves gives."""
    whole = make_several()
    first = whole.views["surprise"]
    path = tmp_path / "one.html"
    path.write_text(render_report(replace(whole, views={"surprise": first})), encoding="utf-8")
    page = show(path, js=js)
    choose(page, "surprise", 1)
    assert page.locator(".stage:visible").get_attribute("viewBox") == "0 0 256 192"


def test_the_page_of_several_grids_is_as_wide_as_a_phone(show: Show, report: Path) -> None:
    names = ".grids legend"
    assert "×" in show(report).locator(names).first.inner_text()
    page = show(report, viewport={"width": 390, "height": 844})
    assert page.locator(names).all_inner_texts()[:3] == NAMES, "their sizes stand above"
    assert len(page.locator(".grids fieldset[data-g]").first.locator("label").all()) > 3
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
