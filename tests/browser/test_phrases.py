"""Several words at once in a report: how they are chosen, what is shown and saved of them; Python says the same."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser.test_report_page import settle, shown_maps
from PIL import Image as PillowImage

from llava_viewer.pages.report import render_report
from llava_viewer.pages.styles import script_text
from llava_wire.record import Record
from support.several import make_several, make_signed
from support.synthetic import make_record

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
Show = Callable[..., Any]


@pytest.fixture(scope="module")
def record() -> Record:
    return make_record(pairs=((0, 1), (1, 2)), seed=5)


@pytest.fixture(scope="module")
def report(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(record, tmp_path_factory.mktemp("report") / "run.html")


def written(record: Record, path: Path) -> Path:
    path.write_text(render_report(record), encoding="utf-8")
    return path


def chosen(page: Any) -> list[str]:
    settle(page)
    return page.locator(".answer .tok.on").evaluate_all("all => all.map(one => one.htmlFor)")


def saved_values(page: Any) -> tuple[np.ndarray, str]:
    """The numbers of the stage's table, [patch], and what it says of them."""
    with page.expect_download() as download:
        page.click(".looks [data-save=csv]")
    text = Path(download.value.path()).read_text("utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    column = "share" if "share" in rows[0] else "value"
    return np.array([float(row[column]) for row in rows], np.float32), text


@pytest.mark.parametrize("seed", range(3))
def test_the_scripts_maps_are_those_of_python(chromium: Any, seed: int) -> None:
    made = make_signed() if seed == 2 else make_record(precision="float32", seed=seed)
    tokens = sorted(int(one) for one in np.random.default_rng(seed).choice(11, 4, replace=False))
    where = {"view": "signed" if seed == 2 else "none", "layer": 1, "head": 0}
    maps = [made.map(token, **where).ravel().tolist() for token in tokens]
    page = chromium.new_page()
    mean, largest = page.evaluate(
        f"(maps) => {{ {script_text('joined')} return [[...meanOf(maps)], [...largestOf(maps)]]; }}", maps
    )
    page.close()
    assert np.allclose(mean, made.phrase(tokens, **where).ravel(), atol=1e-7)
    assert np.array_equal(np.float32(largest), made.phrase(tokens, how="max", **where).ravel())


def test_a_word_of_several_pieces_is_chosen_whole_and_its_pieces_are_a_click_away(
    show: Show, report: Path, record: Record
) -> None:
    page = show(report, "#t=1")
    settle(page)
    page.click("label.tok[for=t9]")
    assert chosen(page) == ["t8", "t9"]
    assert page.inner_text("#phrase h2") == "square"
    expect(page).to_have_url(re.compile("#t=8,9&"))
    assert np.allclose(saved_values(page)[0], record.phrase([8, 9]).ravel(), rtol=1e-6)
    page.click("label.tok[for=t9]")
    assert chosen(page) == ["t9"]
    page.click("label.tok[for=t9]")
    assert chosen(page) == ["t9"], "it stays alone until another word is chosen"
    page.click("label.tok[for=t3]")
    page.click("label.tok[for=t8]")
    page.locator("#phrase button", has_text="uare").click()
    assert chosen(page) == ["t9"]
    (shown,) = shown_maps(page)
    assert np.array_equal(shown, record.views["layers_heads"].on_grid()[9])
    page.keyboard.press("p")
    assert chosen(page) == ["t8", "t9"], "the word before a piece is the word that it belongs to"
    page.keyboard.press("n")
    assert chosen(page) == ["t10"]
    assert page.locator("#phrase h2").count() == 0
    page.keyboard.press("p")
    page.keyboard.press("p")
    assert chosen(page) == ["t7"], "words are passed whole"
    page.keyboard.press("n")
    page.keyboard.press("Escape")
    assert chosen(page) == ["t8"]


def test_words_are_taken_by_shift_by_selecting_them_and_by_a_key(show: Show, report: Path) -> None:
    page = show(report, "#t=1")
    settle(page)
    page.click("label.tok[for=t2]", modifiers=["Shift"])
    assert chosen(page) == ["t1", "t2"]
    assert page.inner_text("#phrase h2") == "red circle"
    page.click("label.tok[for=t9]", modifiers=["Shift"])
    assert chosen(page) == ["t1", "t2", "t8", "t9"]
    assert page.inner_text("#phrase h2") == "red circle … square"
    page.click("label.tok[for=t8]", modifiers=["Shift"])
    page.click("label.tok[for=t1]", modifiers=["Shift"])
    assert chosen(page) == ["t2"]
    page.keyboard.press("w")
    page.keyboard.press("w")
    assert chosen(page) == ["t2", "t3", "t4"]
    page.keyboard.press("W")
    assert chosen(page) == ["t2", "t3"]
    page.click("label.tok[for=t7]")
    assert chosen(page) == ["t7"]
    page.click("#more")
    assert chosen(page) == ["t7", "t8", "t9"]
    first, last = (page.locator(f"label.tok[for={name}]").bounding_box() for name in ("t4", "t6"))
    page.mouse.move(first["x"] + 4, first["y"] + first["height"] / 2)
    page.mouse.down()
    page.mouse.move(last["x"] + last["width"] - 1, last["y"] + last["height"] / 2, steps=4)
    page.mouse.up()
    expect(page.locator(".answer .tok.on")).to_have_count(3)
    expect(page.locator("#t4")).to_be_checked()
    assert chosen(page) == ["t4", "t5", "t6"]
    page.click("label.tok[for=t4]")
    assert chosen(page) == ["t4"], "one of them is a click away"


@pytest.mark.parametrize(("state", "where"), [("v=layers_heads", {}), ("v=none&l=1", {"view": "none", "layer": 1})])
@pytest.mark.parametrize("how", ["mean", "max"])
def test_what_is_saved_of_a_phrase_is_pythons(
    show: Show, report: Path, record: Record, state: str, where: dict[str, Any], how: str
) -> None:
    suffix = ",max" if how == "max" else ""
    page = show(report, f"#t=1,2,6{suffix}&{state}")
    settle(page)
    values, text = saved_values(page)
    wanted = record.phrase([1, 2, 6], how=how, **where).ravel()
    assert np.allclose(values, wanted, rtol=2e-3 if where else 1e-6, atol=2e-3 * wanted.max() if where else 0)
    assert f"# state: t=1,2,6{suffix}&" in text
    assert ("largest of 3 tokens" if how == "max" else "Mean of the maps of 3 tokens") in text
    assert page.locator(".worth").is_visible() == (how == "mean")
    with page.expect_download() as download:
        page.click(".looks [data-save=svg]")
    figure = Path(download.value.path()).read_text("utf-8")
    assert "“red circle … a”" in figure
    page.keyboard.press("a")
    expect(page.locator(".trio figure b")).to_contain_text(
        f"“red circle … a” (tokens, {'maximum' if suffix else 'mean'} of 1, 2, 6)"
    )
    expect(page).to_have_url(re.compile(rf"pa=1,2,6{suffix}%7E"))
    page.locator("#phrase button", has_text="mean" if suffix else "largest").click()
    expect(page).to_have_url(re.compile("#t=1,2,6&" if suffix else "#t=1,2,6,max&"))


def test_a_phrase_has_its_board_its_box_and_its_grid(show: Show, record: Record, report: Path, tmp_path: Path) -> None:
    page = show(report, "#t=1,2&v=none&k=maps&box=70,40,121,90")
    page.locator("#inside-words button").first.wait_for()
    assert page.locator("#inside-words [aria-pressed=true]").count() <= 2
    box = record.words_at((70, 40, 121, 90), view="none")
    own = np.mean([one.inside for one in box if one.token in (1, 2)])
    line = re.search(r"# Box .*: ([\d.]+).% inside", saved_values(page)[1])
    assert line
    assert float(line[1]) == pytest.approx(100 * own, abs=0.06)
    page = show(written(make_several(), tmp_path / "several.html"), "#t=1,2")
    settle(page)
    assert page.locator("#onto li").count() > 1


def test_signed_maps_have_phrases_too(show: Show, tmp_path: Path) -> None:
    record = make_signed()
    page = show(written(record, tmp_path / "run.html"), "#t=1,2,max&v=signed&l=1&h=0")
    settle(page)
    values, _ = saved_values(page)
    wanted = record.phrase([1, 2], how="max", view="signed", layer=1, head=0).ravel()
    assert np.allclose(values, wanted, atol=0.02 * np.abs(wanted).max())
    assert (values < 0).any()


def test_axe_finds_nothing_in_a_phrase(show: Show, report: Path, inspect_access: Callable[[Any], list[str]]) -> None:
    for options in ({}, {"color_scheme": "dark"}, {"forced_colors": "active"}):
        page = show(report, "#t=1,2,max", **options)
        settle(page)
        assert not inspect_access(page)


def test_fingers_take_several_words(show: Show, report: Path) -> None:
    page = show(report, "#t=1", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    settle(page)
    page.tap("label.tok[for=t4]")
    assert chosen(page) == ["t4"]
    page.tap("#more")
    page.tap("#more")
    assert chosen(page) == ["t4", "t5", "t6"]
    # What a long press and the handles of a selection leave behind.
    page.evaluate(
        """() => { const text = (id) => document.querySelector(`.tok[for=${id}]`).firstChild;
            getSelection().setBaseAndExtent(text("t1"), 0, text("t2"), 3); }"""
    )
    expect(page.locator("#phrase h2")).to_have_text("red circle")
    assert chosen(page) == ["t1", "t2"]
    page.evaluate("getSelection().removeAllRanges()")
    page.tap("label.tok[for=t7]")
    assert chosen(page) == ["t7"]


def test_a_long_answer_opens_at_its_word_and_its_reading_is_told(show: Show, tmp_path: Path) -> None:
    words = ("A", *(f" word{number}" for number in range(300)), ".")
    path = written(make_record(words=words, reductions=("layers_heads",)), tmp_path / "run.html")
    page = show(path, "#t=280", viewport={"width": 1280, "height": 720})
    settle(page)
    word, box = (page.locator(one).bounding_box() for one in (".tok[for=t280]", ".answer .words"))
    assert box["y"] <= word["y"]
    assert word["y"] + word["height"] <= box["y"] + box["height"]
    assert page.evaluate("scrollY") == 0
    told = page.locator("#worth[role=status]")
    expect(told).to_contain_text("its brightest patch")
    before = told.inner_text()
    page.keyboard.press("n")
    expect(told).not_to_have_text(before)


def test_kept_maps_keep_the_hatch_and_saved_images_their_resolution(show: Show, report: Path) -> None:
    page = show(report, "#t=1&pa=1~none~0~1&pb=mean")
    expect(page.locator(".trio figure")).to_have_count(3)
    assert page.locator(".trio .hatched").count() == 3 * page.locator("#stage .hatched").count() > 0
    with page.expect_download() as download:
        page.click(".looks [data-save=png]")
    with PillowImage.open(download.value.path()) as saved:
        saved.load()
        assert saved.width == 2100
        assert [round(one) for one in saved.info["dpi"]] == [300, 300]
