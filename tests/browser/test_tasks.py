"""What a report is opened for: ten tasks, each with as many gestures as it may take."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser.test_box import at, told
from browser.test_report_page import settle
from PIL import Image as PillowImage

from llava_viewer.cli.main import main
from llava_viewer.look import wording
from llava_viewer.pages.index import write_index
from llava_viewer.pages.report import render_report
from llava_wire import encode
from llava_wire.record import Record
from support.planted import SUNK, make_sunk
from support.synthetic import make_record

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
Show = Callable[..., Any]
SMALL = {"viewport": {"width": 1280, "height": 720}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
WORDS = ("A", " red", " cup", " on", " the", " wood", "en", " table", ".")
CUP = 2
"""The cup's word, whose bright patch is the third of the third row."""


class Hands:
    """A reader's gestures on a page, counted: one press and release of a pointer each, moved or not."""

    def __init__(self, page: Any) -> None:
        self.page, self.count = page, 0

    def click(self, what: str) -> None:
        self.count += 1
        self.page.click(what)

    def point(self, x: float, y: float) -> None:
        """A click on the image, in its px."""
        self.count += 1
        self.page.mouse.click(*at(self.page, x, y))

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """From place to place of the screen."""
        self.count += 1
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        self.page.mouse.move(*end)
        self.page.mouse.up()

    def slide(self, what: str, value: int) -> None:
        """A slider, drawn to a value."""
        self.count += 1
        self.page.fill(what, str(value))


@pytest.fixture(scope="module")
def record() -> Record:
    return make_record(words=WORDS, pairs=((0, 1), (1, 2)), prompt="What stands where?", seed=5)


@pytest.fixture(scope="module")
def report(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "run.html"
    path.write_text(render_report(record), encoding="utf-8")
    return path


def cup_box(record: Record) -> tuple[float, ...]:
    return tuple(float(edge) for edge in record.geometry.patch_rects()[CUP, CUP])


def draw(hands: Hands, box: tuple[float, ...]) -> None:
    hands.drag(at(hands.page, box[0] + 1, box[1] + 1), at(hands.page, box[2] - 1, box[3] - 1))


def test_the_word_that_looks_at_the_cup_takes_one(show: Show, report: Path, record: Record) -> None:
    page = show(report, **SMALL)
    settle(page)
    hands = Hands(page)
    draw(hands, cup_box(record))
    assert told(page, "words")[0][0] == "cup"
    assert hands.count == 1


def test_the_heads_that_look_at_it_take_two(show: Show, report: Path, record: Record) -> None:
    page = show(report, **SMALL)
    settle(page)
    hands = Hands(page)
    draw(hands, cup_box(record))
    first, *_ = told(page, "heads")
    best = record.heads_at(cup_box(record))[0]
    assert first[0] == f"L{best.layer} H{best.head} “cup”"
    hands.click("#inside-heads button >> nth=0")
    settle(page)
    expect(page.locator("#slotname")).to_have_text(f"L{best.layer} H{best.head}")
    assert page.is_checked(f"#t{CUP}")
    assert hands.count == 2


def test_whether_a_map_means_something_takes_none(show: Show, tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    path.write_text(render_report(make_sunk(seed=5), opening=f"t={SUNK}"), encoding="utf-8")
    page = show(path, **SMALL)
    settle(page)
    verdict = page.locator(".worth:visible")
    expect(verdict).to_contain_text("× sink")
    assert verdict.bounding_box()["y"] < 720, "it is on the first screen"


def test_from_a_patch_to_its_words_takes_one(show: Show, report: Path, record: Record) -> None:
    page = show(report, **SMALL)
    settle(page)
    hands = Hands(page)
    x0, y0, x1, y1 = cup_box(record)
    hands.point((x0 + x1) / 2, (y0 + y1) / 2)
    assert told(page, "words")[0][0] == "cup"
    assert hands.count == 1


def test_two_questions_compared_take_two_and_the_printed_command(
    show: Show, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, prompt in (("colour", "What colour is it?"), ("where", "Where is it?")):
        (tmp_path / f"{name}.npz").write_bytes(encode(make_record(prompt=prompt, reductions=("layers_heads",))))
    page = show(write_index(tmp_path), **SMALL)
    hands = Hands(page)
    for number in (0, 1):
        hands.click(f".compare >> nth={number}")
    program, *arguments = shlex.split(page.inner_text("#command"))
    assert program == "llava-viewer"
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 0
    compared = show(tmp_path / "compare.html", **SMALL)
    assert "What colour is it?" in compared.inner_text("body")
    assert "Where is it?" in compared.inner_text("body")
    assert hands.count == 2


def test_a_figure_for_a_paper_takes_one(show: Show, report: Path) -> None:
    page = show(report, **SMALL)
    settle(page)
    hands = Hands(page)
    with page.expect_download() as download:
        hands.click(".looks [data-save=png]")
    assert PillowImage.open(download.value.path()).width == 2100, "7 inches at 300 dpi"
    assert hands.count == 1


def test_a_report_that_opens_on_a_phone_as_it_was_left_takes_one(
    show: Show, report: Path, record: Record, tmp_path: Path
) -> None:
    page = show(report, "#t=2,3&v=none&l=1&m=map&box=70,40,121,90", **SMALL)
    told(page, "words")
    hands = Hands(page)
    with page.expect_download() as download:
        hands.click("#save-copy")
    download.value.save_as(tmp_path / "mailed.html")
    phone = show(tmp_path / "mailed.html", **PHONE)
    assert told(phone, "words") == told(page, "words")
    settle(phone)
    assert phone.get_attribute("#live", "href") == page.get_attribute("#live", "href")
    assert phone.inner_text("#phrase h2") == "cup on"
    stage = phone.locator("#stage").bounding_box()
    assert 0 <= stage["y"] < stage["y"] + 0.9 * stage["height"] < 844, "the image is in sight"
    assert hands.count == 1


def test_two_hundred_runs_are_scanned_for_those_that_did_not_look_in_two(show: Show, tmp_path: Path) -> None:
    shares = np.random.default_rng(0).permutation([0.02] * 7 + [0.3] * 193)
    kinds = {
        share: encode(
            make_record(image_share=share, words=("A", " red"), reductions=("layers_heads",), with_picture=False)
        )
        for share in (0.02, 0.3)
    }
    for number, share in enumerate(shares):
        (tmp_path / f"run-{number:03}.npz").write_bytes(kinds[float(share)])
    page = show(write_index(tmp_path), **SMALL)
    hands = Hands(page)
    hands.slide("#most", 5)
    expect(page.locator("#shown")).to_have_text("7 of 200 shown")
    first = page.locator(".run:visible").first
    expect(first.locator(".warn")).to_have_text(wording.map_verdict("weak", 0.02, None, "the image"))
    assert hands.count == 1, "one less than it may take"


def test_a_phrase_takes_one(show: Show, report: Path, record: Record) -> None:
    page = show(report, "#t=0", **SMALL)
    settle(page)
    boxes = [page.locator(f"label.tok[for=t{number}]").bounding_box() for number in (1, CUP)]
    hands = Hands(page)
    middle = boxes[0]["y"] + boxes[0]["height"] / 2
    hands.drag((boxes[0]["x"] + 3, middle), (boxes[1]["x"] + boxes[1]["width"] - 2, middle))
    expect(page.locator("#phrase h2")).to_have_text("red cup")
    expect(page).to_have_url(re.compile("#t=1,2&"))
    assert hands.count == 1
    page = show(report, "#t=0", **SMALL)
    settle(page)
    hands = Hands(page)
    hands.click("label.tok[for=t6]")
    expect(page.locator("#phrase h2")).to_have_text("wooden")
    assert hands.count == 1


@pytest.mark.parametrize("js", [True, False], ids=["js", "no-js"])
def test_what_a_share_means_takes_none(show: Show, report: Path, record: Record, js: bool) -> None:
    page = show(report, js=js, **SMALL)
    settle(page)
    told_there = page.locator(".card .hint:visible", has_text="of the prompt's")
    assert told_there.all_inner_texts() == [
        "64 of the prompt's 70 tokens are the image; this answer's usual is 40\xa0%."
    ]
