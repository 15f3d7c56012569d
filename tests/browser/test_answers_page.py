"""Several answers in one report: a native switch; the address and copies hold which; it works without the script."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser.test_report_page import settle, shown_maps
from browser.test_state import copy_of

from llava_viewer.look import frames
from llava_viewer.pages.report import render_report
from llava_wire.record import Record
from support.answers import ANSWERS, make_answers

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
Show = Callable[..., Any]


@pytest.fixture(scope="module")
def record() -> Record:
    return make_answers()


@pytest.fixture(scope="module", params=[480, 0], ids=["elements", "atlas"])
def report(record: Record, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("answers") / "run.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "MAX_STATIC_FRAMES", request.param)
        path.write_text(render_report(record), encoding="utf-8")
    return path


def switch(page: Any, number: int) -> None:
    """Chooses an answer and waits for its page."""
    page.locator(f".choices:visible label[for=n{number}]").click()
    page.wait_for_url(re.compile(rf"n={number}\b"))
    page.locator(f"[data-answer=n{number}][data-own]").wait_for()
    settle(page)


def words(page: Any) -> str:
    return "".join(page.locator(".answer .words .tok:visible").all_text_contents())


def test_the_switch_shows_one_answer_whole_and_keeps_view_look_and_box(
    show: Show, report: Path, record: Record
) -> None:
    page = show(report, "#t=8,9&v=none&l=1&h=2&m=map&box=70,40,121,90")
    settle(page)
    assert words(page) == "".join(word.strip() for word in ANSWERS[0])
    lines = page.locator(".choices label")
    assert lines.all_inner_texts()[1].split("\n") == [
        "2", "One red circle and nothing more.", "log p −1.60 · score −0.50",
    ]  # fmt: skip
    for number in (1, 2, 0):
        switch(page, number)
        assert words(page) == "".join(word.strip() for word in ANSWERS[number])
        assert page.locator(".choices .own b").inner_text() == str(number + 1)
        token = int(page.locator("[data-own] input[name=t]:checked").get_attribute("id")[1:])
        (shown,) = shown_maps(page)
        stored = record.sequence(number).views["none"].on_grid()[:, 1, 2]
        assert np.array_equal(shown, stored[token]), number
        for part in ("v=none", "l=1", "h=2", "m=map", "box=70,40,121,90"):
            assert part in page.url
    assert page.locator("[data-answer]").count() == 1


def test_the_keyboard_goes_through_the_answers(show: Show, report: Path) -> None:
    page = show(report)
    settle(page)
    page.focus("#n0")
    for number in (1, 2):
        page.keyboard.press("ArrowDown")
        page.wait_for_url(re.compile(rf"n={number}\b"))
        page.locator(f"[data-answer=n{number}][data-own]").wait_for()
        settle(page)
        assert page.evaluate("document.activeElement.id") == f"n{number}"
    assert page.get_attribute("#n2", "aria-label") == "Answer 3 of 3: log p −1.20 · score −0.75: Two shapes."


def test_an_address_and_a_rendered_state_open_on_their_answer(show: Show, record: Record, tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    path.write_text(render_report(record, opening="answer=2&t=1&v=none&l=0&h=1"), encoding="utf-8")
    stored = [record.sequence(number).views["none"].on_grid() for number in range(3)]
    (shown,) = shown_maps(show(path))
    assert np.array_equal(shown, stored[2][1, 0, 1])
    off = show(path, js=False)
    (shown,) = shown_maps(off)
    assert np.array_equal(shown, stored[2][1, 0, 1])
    page = show(path, "#n=1&t=3&v=none&l=1&h=0")
    (shown,) = shown_maps(page)
    assert np.array_equal(shown, stored[1][3, 1, 0])
    page.evaluate("location.hash = '#n=0&t=3&v=none&l=1&h=0'")
    page.locator("[data-answer=n0][data-own]").wait_for()
    (shown,) = shown_maps(page)
    assert np.array_equal(shown, stored[0][3, 1, 0])


def test_without_the_script_the_switch_and_the_words_of_each_answer_work(
    show: Show, record: Record, report: Path
) -> None:
    page = show(report, js=False)
    for number in (2, 1, 0):
        page.locator(f".choices:visible label[for=n{number}]").click()
        assert words(page) == "".join(word.strip() for word in ANSWERS[number])
        page.locator(".answer:visible .tok").nth(1).click()
        (shown,) = shown_maps(page)
        assert np.array_equal(shown, record.sequence(number).views["layers_heads"].on_grid()[1])
        assert page.locator(".card h2:visible").all_inner_texts() == [ANSWERS[number][1].strip()]
        page.locator("label:visible", has_text=re.compile("^spotlight$")).click()
        assert page.locator(".stage:visible").count() == 1
        for part in ("Gallery", "Metadata"):
            page.get_by_role("navigation").get_by_role("link", name=part).click()
            inside = "document.querySelector(':target')?.closest('[data-answer]')?.dataset.answer"
            assert page.evaluate(inside) == f"n{number}", "the answer's own part"
            expect(page.locator(":target")).to_be_in_viewport()
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids)), "an id stands once in the page"


def test_a_copy_holds_the_answer_and_copies_itself(show: Show, report: Path, record: Record, tmp_path: Path) -> None:
    page = show(report, "#n=1&t=3&v=none&l=1&h=0&m=map")
    settle(page)
    first = copy_of(page, tmp_path / "first.html")
    copied = show(first)
    stored = record.sequence(1).views["none"].on_grid()
    (shown,) = shown_maps(copied)
    assert np.array_equal(shown, stored[3, 1, 0])
    assert copied.is_checked("#m-map")
    assert copy_of(copied, tmp_path / "second.html").read_bytes() == first.read_bytes()
    off = show(first, js=False)
    assert words(off) == "".join(word.strip() for word in ANSWERS[1])
    assert off.is_checked("#n1-m-map")
    assert off.is_checked("#n1-t3")
    off.locator(".choices:visible label[for=n0]").click()
    assert words(off) == "".join(word.strip() for word in ANSWERS[0])


def test_axe_finds_nothing(
    show: Show, inspect_access: Callable[[Any], list[str]], record: Record, tmp_path: Path
) -> None:
    path = tmp_path / "run.html"
    path.write_text(render_report(record, opening="n=1"), encoding="utf-8")
    page = show(path)
    settle(page)
    assert inspect_access(page) == []
