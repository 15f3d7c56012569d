"""The three steps of a first opening: dismissed for good, and never there where nothing can be kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser.test_report_page import settle

from llava_viewer.notebook import html
from llava_viewer.pages.report import render_report
from llava_viewer.pages.styles import KEYS
from support.synthetic import make_record

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
BLOCKED = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } });"


@pytest.fixture
def context(chromium: Any) -> Iterator[Any]:
    """A reader who opens a report for the first time."""
    made = chromium.new_context(viewport={"width": 1280, "height": 720})
    made.set_default_timeout(60_000)
    yield made
    made.close()


@pytest.fixture
def report(tmp_path: Path) -> str:
    path = tmp_path / "run.html"
    path.write_text(render_report(make_record(reductions=("layers_heads",))), encoding="utf-8")
    return path.as_uri()


def opened(context: Any, address: str) -> Any:
    page = context.new_page()
    page.goto(address)
    settle(page)
    return page


def test_three_steps_come_once(context: Any, report: str, inspect_access: Any) -> None:
    page = opened(context, report)
    tour = page.locator("#tour")
    expect(tour).to_contain_text("1/3 Choose a word")
    box, stage = tour.bounding_box(), page.locator("#stage").bounding_box()
    assert box["x"] > stage["x"] + stage["width"], "it covers nothing of the image"
    assert not inspect_access(page)
    tour.get_by_text("Next").click()
    expect(tour).to_contain_text("2/3 Ask the image")
    assert page.evaluate("document.activeElement.textContent") == "Next"
    page.keyboard.press("Enter")
    expect(tour).to_contain_text("3/3")
    tour.get_by_text("Done").click()
    expect(tour).to_have_count(0)
    page.reload()
    settle(page)
    expect(tour).to_have_count(0)
    page.get_by_text("Show the three steps").click()
    expect(tour).to_contain_text("1/3")


@pytest.mark.parametrize("way", ["Skip", "Escape"])
def test_the_first_step_may_be_the_last(context: Any, report: str, way: str) -> None:
    page = opened(context, report)
    if way == "Skip":
        page.locator("#tour").get_by_text("Skip").click()
    else:
        page.locator("#tour button").first.focus()
        page.keyboard.press("Escape")
    expect(page.locator("#tour")).to_have_count(0)
    again = opened(context, report)
    expect(again.locator("#tour")).to_have_count(0)


def test_where_nothing_can_be_kept_it_waits_to_be_asked_for(context: Any, report: str, tmp_path: Path) -> None:
    context.add_init_script(BLOCKED)
    page = opened(context, report)
    expect(page.locator("#tour")).to_have_count(0)
    page.get_by_text("Show the three steps").click()
    expect(page.locator("#tour")).to_contain_text("1/3")
    page.locator("#tour").get_by_text("Skip").click()
    expect(page.locator("#tour")).to_have_count(0)
    (tmp_path / "notebook.html").write_text(html(make_record(reductions=("layers_heads",))), encoding="utf-8")
    page = context.new_page()
    page.goto((tmp_path / "notebook.html").as_uri())
    frame = page.frame_locator("iframe")
    frame.locator("#stage[aria-busy=false]").wait_for()
    expect(frame.locator("#tour")).to_have_count(0)


def test_it_waits_where_a_page_opens_with_what_somebody_chose(context: Any, report: str) -> None:
    sent = opened(context, f"{report}#t=1&v=layers_heads&box=10,10,60,60")
    expect(sent.locator("#inside-words li").first).to_be_visible()
    expect(sent.locator("#tour")).to_have_count(0)
    expect(opened(context, report).locator("#tour")).to_contain_text("1/3")


def test_the_list_of_keys_is_whole(context: Any, report: str) -> None:
    page = opened(context, report)
    lines = page.locator("#keys dl > div").evaluate_all(
        """all => all.map((line) =>
            [[...line.querySelectorAll("kbd")].map((one) => one.textContent), line.lastChild.textContent])"""
    )
    assert [(tuple(names), does) for names, does in lines] == list(KEYS)
