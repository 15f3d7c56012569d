"""A report in a real browser: the chosen token's map is the one on the stage, with and without JavaScript."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from llava_viewer.look import colormap
from llava_viewer.pages.report import render_report
from llava_wire.record import Record
from support.golden import hostile_record
from support.synthetic import make_record

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
Show = Callable[..., Any]
BOTH = pytest.mark.parametrize("js", [True, False], ids=["js", "no-js"])


@pytest.fixture(scope="module")
def record() -> Record:
    return make_record(pairs=((0, 1), (1, 2)), prompt="What is there, from left to right?")


@pytest.fixture(scope="module")
def report(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(record, tmp_path_factory.mktemp("report") / "run.html")


def written(record: Record, path: Path) -> Path:
    path.write_text(render_report(record), encoding="utf-8")
    return path


def choose(page: Any, name: str) -> None:
    """Chooses a token, a view or a look, and waits until the stage shows it."""
    label = f"label.tok[for={name}]" if re.fullmatch(r"[tq]\d+", name) else f"label[for={name}]"
    page.click(label)
    settle(page)
    if ".tok" in label and page.locator("#phrase h2").count():
        page.click(label)  # the first click takes the whole word
        settle(page)


def choose_cell(page: Any, view: int, cell: int, layer: int | None, head: int | None, pair: bool = False) -> None:
    """Chooses a single map of a view: by its picture without the script, by the pickers with it."""
    if page.locator("html.js").count() == 0:
        page.click(f"label[for=s{view}-{cell + 1}]")
        return
    if pair:
        page.select_option("#pick-pair select", f"{layer}.{head}")
    else:
        page.select_option("#pick-layer select", "" if layer is None else str(layer))
        page.select_option("#pick-head select", "" if head is None else str(head))
    settle(page)


def settle(page: Any) -> None:
    """Waits for the script to have drawn what is chosen; without a script there is nothing to wait for."""
    if page.locator("html.js").count():
        page.wait_for_selector("#stage[aria-busy=false]")


def shown_maps(page: Any) -> list[np.ndarray]:
    """The pictures of all maps that take up room on the stage, decoded from the page."""
    settle(page)
    uris = page.locator(".stage .heat :is(use, image):visible").evaluate_all(
        """found => found.map(one => one.getAttribute("href"))
            .map(href => href.startsWith("#") ? document.querySelector(href).getAttribute("href") : href)"""
    )
    return [np.asarray(PillowImage.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))) for uri in uris]


def patch_colours(page: Any, record: Record) -> np.ndarray:
    """The mean colour of every patch as the screen shows it, [row, col, 3]."""
    stage = page.locator(".stage")
    frame = stage.bounding_box()
    picture = np.asarray(PillowImage.open(io.BytesIO(page.screenshot(clip=frame))).convert("RGB")).astype(float)
    width, height = record.geometry.width_px, record.geometry.height_px
    scale = min(frame["width"] / width, frame["height"] / height)
    left, top = (frame["width"] - scale * width) / 2, (frame["height"] - scale * height) / 2
    rects = record.geometry.patch_rects() * scale + np.array([left, top, left, top])
    colours = np.empty((*rects.shape[:2], 3))
    for row, col in np.ndindex(*rects.shape[:2]):
        x0, y0, x1, y1 = rects[row, col]
        inset_x, inset_y = 0.3 * (x1 - x0), 0.3 * (y1 - y0)
        part = picture[round(y0 + inset_y) : round(y1 - inset_y), round(x0 + inset_x) : round(x1 - inset_x)]
        colours[row, col] = part.mean(axis=(0, 1))
    return colours


@BOTH
def test_choosing_a_word_shows_its_map_and_no_other(show: Show, report: Path, record: Record, js: bool) -> None:
    page = show(report, js=js)
    stored = record.views["layers_heads"].on_grid()
    for t in (3, 0, 9, 10):
        choose(page, f"t{t}")
        (shown,) = shown_maps(page)
        assert np.array_equal(shown, stored[t])
        assert page.locator(".card h2:visible").all_inner_texts() == [record.tokens[t].text.strip()]
        for part in (".peaks use", ".ramp b", ".card .share", ".card .parts dd", ".card .tops", ".card .top5"):
            assert page.locator(f"{part}:visible").count() == 1, part


@BOTH
def test_the_brightest_spot_on_the_screen_is_the_brightest_patch(
    show: Show, report: Path, record: Record, js: bool
) -> None:
    page = show(report, js=js)
    choose(page, "m-map")
    maps = record.maps_float()
    for t in (1, 4, 7):
        choose(page, f"t{t}")
        light = patch_colours(page, record) @ [0.2126, 0.7152, 0.0722]
        assert np.unravel_index(light.argmax(), light.shape) == np.unravel_index(maps[t].argmax(), maps[t].shape)


@BOTH
def test_the_map_has_the_palettes_colours(show: Show, report: Path, record: Record, js: bool) -> None:
    page = show(report, js=js)
    choose(page, "m-map")
    choose(page, "t2")
    values = (record.views["layers_heads"].on_grid()[2] / 255) ** 2
    for palette in colormap.PALETTES:
        choose(page, f"p-{palette}")
        seen = patch_colours(page, record)
        assert np.abs(seen - colormap.lookup(palette, values)).max() < 4, palette


@BOTH
def test_the_shared_scale_dims_by_the_maxima(show: Show, tmp_path: Path, js: bool) -> None:
    record = make_record(reductions=("layers_heads",), words=("A", " b"))
    view = record.views["layers_heads"]
    view.scales[1] /= 4
    page = show(written(record, tmp_path / "run.html"), js=js)
    for name in ("m-map", "s-shared", "t1"):
        choose(page, name)
    values = record.maps_float()
    expected = colormap.lookup("cividis", values[1] / values.max())
    assert np.abs(patch_colours(page, record) - expected).max() < 5


@BOTH
def test_modes_change_what_is_seen(show: Show, report: Path, record: Record, js: bool) -> None:
    page = show(report, js=js)
    choose(page, "t3")
    seen = {}
    for mode in ("heat", "spotlight", "map", "photo"):
        choose(page, f"m-{mode}")
        seen[mode] = patch_colours(page, record)
    lit = seen["spotlight"].mean(axis=-1) / seen["photo"].mean(axis=-1)
    assert np.unravel_index(lit.argmax(), lit.shape) == (3, 3)
    assert lit.max() > 0.95
    assert np.median(lit) < 0.5
    assert not np.allclose(seen["heat"], seen["photo"], atol=5)


@BOTH
def test_views_layers_and_heads_switch(show: Show, report: Path, record: Record, js: bool) -> None:
    page = show(report, js=js)
    choose(page, "t5")
    views = list(record.views)
    choose(page, f"v{views.index('none')}")
    choose_cell(page, views.index("none"), 4, 1, 1)
    (shown,) = shown_maps(page)
    assert np.array_equal(shown, record.views["none"].on_grid()[5, 1, 1])
    choose(page, f"v{views.index('all')}")
    (shown,) = shown_maps(page)
    assert np.array_equal(shown, record.views["all"].on_grid())
    assert "one map for the whole answer" in page.inner_text(".card")
    choose(page, f"v{views.index('pairs')}")
    choose_cell(page, views.index("pairs"), 1, 1, 2, pair=True)
    (shown,) = shown_maps(page)
    assert np.array_equal(shown, record.views["pairs"].on_grid()[5, 1])


@BOTH
def test_arrow_keys_walk_through_the_words(show: Show, report: Path, record: Record, js: bool) -> None:
    page = show(report, js=js)
    choose(page, "t0")
    before = page.evaluate("scrollY") if js else 0
    for _ in range(2):
        page.keyboard.press("ArrowRight")
        settle(page)
    (shown,) = shown_maps(page)
    assert np.array_equal(shown, record.views["layers_heads"].on_grid()[2])
    if js:
        assert page.evaluate("scrollY") == before, "choosing a word does not move the page"


@BOTH
def test_special_tokens_are_folded_away_and_within_reach(show: Show, report: Path, record: Record, js: bool) -> None:
    page = show(report, js=js)
    end = f"t{len(record.tokens) - 1}"
    assert not page.locator(f".tok[for={end}]").is_visible()
    page.click("label[for=sp-show]")
    choose(page, end)
    (shown,) = shown_maps(page)
    assert np.array_equal(shown, record.views["layers_heads"].on_grid()[-1])


@BOTH
def test_the_gallery_has_every_token_and_chooses(show: Show, report: Path, record: Record, js: bool) -> None:
    page = show(report, js=js)
    page.locator(".gallery h2").scroll_into_view_if_needed()
    expect(page.locator(".gallery figure:visible")).to_have_count(len(record.tokens))
    page.locator(".gallery figure:visible label").nth(6).click()
    (shown,) = shown_maps(page)
    assert np.array_equal(shown, record.views["layers_heads"].on_grid()[6])


@BOTH
def test_hostile_text_does_nothing(show: Show, tmp_path: Path, js: bool) -> None:
    page = show(written(hostile_record(), tmp_path / "hostile.html"), js=js)
    assert page.locator("img").count() == 0
    assert page.locator("[onerror], [onmouseover], [onfocus]").count() == 0
    choose(page, "t3")
    assert page.locator(".card h2:visible").inner_text() == "שלום"
    if js:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@BOTH
def test_the_theme_can_be_chosen(show: Show, report: Path, js: bool) -> None:
    page = show(report, js=js, color_scheme="light")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    choose(page, "th-dark")
    dark = page.evaluate(colour)
    assert light != dark
    assert show(report, js=js, color_scheme="dark").evaluate(colour) == dark


def test_the_policy_is_in_force(show: Show, report: Path) -> None:
    page = show(report, refusals=True)
    styled = page.evaluate(
        """() => {
            const made = document.createElement("div");
            made.setAttribute("style", "position: fixed");
            document.body.append(made);
            return getComputedStyle(made).position;
        }"""
    )
    assert styled == "static"
    ran = page.evaluate(
        """() => {
            const made = document.createElement("script");
            made.textContent = "window.intruder = true";
            document.body.append(made);
            return window.intruder === true;
        }"""
    )
    assert not ran


def test_a_link_opens_what_it_names_and_the_address_follows(show: Show, report: Path, record: Record) -> None:
    page = show(report, "#t=7&v=heads&m=map&p=viridis&s=shared")
    for name in ("t7", f"v{list(record.views).index('heads')}", "m-map", "p-viridis", "s-shared"):
        assert page.is_checked(f"#{name}")
    choose(page, "t2")
    choose(page, "m-spotlight")
    expect(page).to_have_url(re.compile("#t=2&v=heads&m=spotlight&p=viridis&s=shared$"))


def test_the_readout_tells_the_patch(show: Show, report: Path, record: Record) -> None:
    page = show(report)
    choose(page, "t4")
    frame = page.locator(".stage").bounding_box()
    scale = min(frame["width"] / 256, frame["height"] / 192)
    left, top = (frame["width"] - 256 * scale) / 2, (frame["height"] - 192 * scale) / 2
    x0, y0, x1, y1 = record.geometry.patch_rects()[4, 4]
    page.mouse.move(frame["x"] + left + scale * (x0 + x1) / 2, frame["y"] + top + scale * (y0 + y1) / 2)
    expect(page.locator("#readout")).to_contain_text("Row 4, column 4")
    value = float(record.maps_float()[4, 4, 4])
    assert f": {100 * value:.2g}\u00a0%" in page.inner_text("#readout")
    page.focus("#stage")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#readout")).to_contain_text("Row 4, column 3")


def test_play_walks_to_the_last_word(show: Show, tmp_path: Path) -> None:
    record = make_record(words=("A", " red"), reductions=("layers_heads",))
    page = show(written(record, tmp_path / "run.html"), "#t=1")
    page.click("#play")
    for wanted in ("#t0", "#t1"):
        expect(page.locator(wanted)).to_be_checked()
    expect(page.locator("#play")).to_have_text("Play")


def test_nothing_overflows_a_phone(show: Show, report: Path) -> None:
    page = show(report, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_record_without_a_picture_opens(show: Show, tmp_path: Path) -> None:
    record = make_record(with_picture=False, reductions=("layers_heads",))
    page = show(written(record, tmp_path / "run.html"))
    assert "carries no image" in page.inner_text(".notes")
    (shown,) = shown_maps(page)
    assert shown.shape == (8, 8)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(
    show: Show, report: Path, inspect_access: Callable[[Any], list[str]], theme: str, tmp_path: Path
) -> None:
    hostile = written(hostile_record(), tmp_path / "hostile.html")
    for path in (report, hostile):
        assert not inspect_access(show(path, color_scheme=theme))
