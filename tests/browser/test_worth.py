"""What a map is worth, in a report: the same with the script and without, sinks marked on the stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser.test_report_page import choose, choose_cell, settle

from llava_viewer.pages.report import render_report
from support.planted import make_sunk

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
Show = Callable[..., Any]


def told(page: Any) -> list[str]:
    settle(page)
    if page.locator("html.js").count():
        page.wait_for_timeout(150)
    return [" ".join(text.split()) for text in page.locator(".worth:visible").all_inner_texts()]


def test_the_script_says_the_same_as_the_page_without_it(
    show: Show, tmp_path: Path, inspect_access: Callable[[Any], list[str]]
) -> None:
    record = make_sunk(seed=5)
    path = tmp_path / "run.html"
    path.write_text(render_report(record), encoding="utf-8")
    found: list[list[list[str]]] = []
    for js in (True, False):
        page = show(path, js=js)
        texts = []
        for token in ("t4", "t1", "t8"):
            choose(page, token)
            texts.append(told(page))
        choose(page, "v1")  # the mean that the page coded anew, then single heads
        texts.append(told(page))
        for cell in (1, 4):
            choose_cell(page, 1, cell, *divmod(cell, 3))
            texts.append(told(page))
        marks = page.locator(".sinks:visible use")
        assert marks.count() == 1
        mark, patch = marks.bounding_box(), page.locator(".stage:visible").bounding_box()
        assert mark["x"] > patch["x"]
        choose(page, f"v{list(record.views).index('all')}")
        assert page.locator(".sinks:visible").count() == 0
        found.append(texts)
        if js:
            assert not inspect_access(page)
    assert found[0] == found[1]
    assert all(len(texts) == 1 for texts in found[0])
    assert found[0][0][0].startswith(
        "× sink: nearly every word of the answer reads its brightest patch. Sinks (×) hold"
    )
    assert found[0][1][0].startswith("◆ particular: its brightest patch has ")


def test_the_room_of_a_verdict_stays_while_the_next_is_found(show: Show, tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    path.write_text(render_report(make_sunk(seed=5)), encoding="utf-8")
    page = show(path, "#t=4", viewport={"width": 1280, "height": 720})
    assert told(page)[0]
    full, empty = page.locator("#worth").evaluate(
        """(worth) => {
            const full = worth.getBoundingClientRect().height;
            worth.textContent = "";
            return [full, worth.getBoundingClientRect().height];
        }"""
    )
    assert full == empty
