"""Signed views in a browser: the palette of differences, texts with their unit, nothing that only shares can say."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from llava_viewer.look import colormap
from llava_viewer.look.units import Unit
from llava_viewer.pages.report import render_report
from llava_wire.findings.patches import PatchCheck, WordPatches
from llava_wire.record import Record
from support.several import CONTRIBUTION, make_signed

Show = Callable[..., Any]


@pytest.fixture(scope="module")
def record() -> Record:
    return make_signed()


@pytest.fixture(scope="module")
def file(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("signed") / "run.html"
    path.write_text(render_report(record), encoding="utf-8")
    return path


def settled(page: Any) -> None:
    page.locator('#stage[aria-busy="false"]').wait_for()


def colour_at(page: Any, row: int, col: int) -> np.ndarray:
    """The colour on the screen in the middle of a patch, [3] uint8."""
    grid = page.evaluate(
        "() => { const at = document.querySelector('.heat').getBoundingClientRect();"
        " return [at.x, at.y, at.width, at.height]; }"
    )
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    x, y = grid[0] + (col + 0.5) * grid[2] / 8, grid[1] + (row + 0.3) * grid[3] / 8
    return np.array(shot.getpixel((round(x), round(y))))


@pytest.mark.parametrize("js", [True, False])
def test_the_stage_shows_both_signs(show: Show, file: Path, record: Record, js: bool) -> None:
    page = show(file, js=js)
    if js:
        settled(page)
    page.locator('label[for="v1"]').click()
    page.locator('label[for="m-map"]').click()
    page.locator('.words label[for="t3"]').click()
    if js:
        settled(page)
    mean = record.views["signed"].maps_float().mean((1, 2))[3]
    unit, largest = Unit(CONTRIBUTION), float(np.abs(mean).max())
    for row, col in ((3, 3), (0, 5), (6, 1)):
        expected = colormap.lookup("difference", unit.levels(mean[row, col], largest)).astype(int)
        assert np.abs(colour_at(page, row, col) - expected).max() <= 12, (row, col)
    text = page.locator("body").inner_text()
    assert f"{unit.text(-largest)} to {unit.text(largest)}" in text
    assert unit.text(float(mean[3, 3])) in page.locator(".tops:visible").inner_text()
    assert "contribution in logit per patch" in text
    for word in ("even spread over", "Where its attention went", "Only 0"):
        assert word not in text
    assert not page.locator("svg.share:visible").count()
    page.locator('label[for="v0"]').click()
    if js:
        settled(page)
    heat = record.views["layers_heads"].maps_float()[3]
    colour = colormap.lookup("cividis", np.float64(heat[3, 3] / heat.max())).astype(int)
    assert np.abs(colour_at(page, 3, 3) - colour).max() <= 12
    text = page.locator("body").inner_text()
    assert "Where its attention went" in text
    assert "even spread" in text
    assert page.locator("svg.share:visible").count()


def test_the_script_says_the_same_as_the_page_without_it(show: Show, file: Path) -> None:
    texts = []
    for js in (True, False):
        page = show(file, js=js)
        if js:
            settled(page)
        for view in ("v1", "v3"):
            page.locator(f'label[for="{view}"]').click()
            page.locator('.words label[for="t2"]').click()
            if js:
                settled(page)
            texts.append(
                [page.locator(".tops:visible").inner_text(), page.locator(".ramp b:visible").first.inner_text()]
            )
    assert texts[:2] == texts[2:]


@pytest.mark.parametrize("js", [True, False])
def test_the_cards_own_headings_stay_in_every_view(show: Show, record: Record, tmp_path: Path, js: bool) -> None:
    words = (WordPatches(0, (3,), 0.5, 0.25, 0.125, 0.001, 0.75, 1.0, 1.0, 1.0),)
    check = {"result": "measured", **PatchCheck("signed", 1, 16, 0, 3, words).to_plain()}
    path = tmp_path / "run.html"
    checked = replace(record, facts=replace(record.facts, checks={"patches": check}))
    path.write_text(render_report(checked), encoding="utf-8")
    page = show(path, js=js)
    for view, shares in (("v0", True), ("v1", False)):
        page.locator(f'label[for="{view}"]').click()
        page.locator('.words label[for="t0"]').click()
        if js:
            settled(page)
        card = page.locator(".card").inner_text()
        assert "What it took the 1 brightest patch of “signed”" in card
        assert "row, column" in card
        assert ("times an even spread" in card) is shares
        assert ("Where its attention went" in card) is shares


def test_readout_compare_and_saved_files_have_the_unit(show: Show, file: Path, tmp_path: Path) -> None:
    page = show(file, "#v=signed&t=3&m=map")
    settled(page)
    page.locator("#stage").focus()
    page.keyboard.press("ArrowRight")
    assert re.fullmatch(r"Row \d, column \d: [+−]?[\d.]+\xa0logit", page.locator("#readout").inner_text())
    page.locator('label[for="k-shares"]').dispatch_event("click")  # hidden in this view
    page.locator("#board").hover(position={"x": 40, "y": 40})
    page.wait_for_timeout(300)
    assert re.fullmatch(r"(L\d|H\d|L\d H\d).*largest size [\d.]+\xa0logit", page.locator("#pointed").inner_text())
    page.locator("#pin-a").click()
    page.locator('.words label[for="t2"]').click()
    settled(page)
    page.locator("#pin-b").click()
    page.locator("#trio figure").nth(2).wait_for()
    told = page.locator("#trio").inner_text()
    assert "scale −" in told
    assert "points" not in told
    assert "logit" in told
    page.locator('label[for="v3"]').click()
    settled(page)
    page.locator("#pin-b").click()
    page.locator("#trio p.hint").wait_for()
    assert page.locator("#trio figure").count() == 1
    assert "another quantity" in page.locator("#trio").inner_text()
    with page.expect_download() as download:
        page.locator('.looks [data-save="csv"]').click()
    saved = Path(download.value.path()).read_text("utf-8")
    assert "y1_px,value" in saved
    assert "surprise in nats per patch" in saved
    page.locator('label[for="v1"]').click()
    settled(page)
    with page.expect_download() as download:
        page.locator('.looks [data-save="svg"]').click()
    svg = Path(download.value.path()).read_text("utf-8")
    assert "contribution in logit per patch" in svg
    assert "even spread" not in svg
    assert ">0</text>" in svg
