"""A report's state travels: what is open in a page opens in its copy and in a page rendered with that state."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser.test_box import told
from browser.test_report_page import settle, shown_maps

from llava_viewer.look import frames
from llava_viewer.pages.report import render_report
from llava_wire.record import Record
from support.golden import hostile_record
from support.several import make_several
from support.synthetic import make_record

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
Show = Callable[..., Any]
STATE = "t=4&v=none&l=1&h=2&m=map&p=viridis&s=shared&b=prob&o=60&pa=1~none~0~1&pb=mean&box=70,40,121,90"


@pytest.fixture(scope="module")
def record() -> Record:
    return make_record(pairs=((0, 1), (1, 2)), seed=5)


@pytest.fixture(scope="module", params=[480, 0], ids=["elements", "atlas"])
def static_frames(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def page_of(record: Record, path: Path, static_frames: int = 480, opening: str = "") -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "MAX_STATIC_FRAMES", static_frames)
        path.write_text(render_report(record, opening=opening), encoding="utf-8")
    return path


def state_of(page: Any) -> dict[str, Any]:
    """What a page shows of its state, without its address."""
    settle(page)
    expect(page.locator(".trio figure")).not_to_have_count(1)
    return {
        "on": page.locator("input:checked").evaluate_all("all => all.map(one => one.id)"),
        "map": page.get_attribute("#live", "href"),
        "slot": page.inner_text("#slotname"),
        "opacity": page.input_value("#opacity"),
        "kept": page.locator(".trio figure > b").all_inner_texts(),
        "box": page.locator("#inside-where").inner_text(),
    }


def copy_of(page: Any, path: Path) -> Path:
    with page.expect_download() as download:
        page.click("#save-copy")
    assert re.fullmatch(r"llava-gaze_[\w-]+\.html", download.value.suggested_filename)
    download.value.save_as(path)
    return path


def test_a_copy_opens_in_the_same_state_and_copies_itself(
    show: Show, record: Record, static_frames: int, tmp_path: Path
) -> None:
    page = show(page_of(record, tmp_path / "run.html", static_frames), f"#{STATE}")
    page.locator("#inside-heads button").first.wait_for()
    page.click("label[for=th-dark]")
    state = state_of(page)
    assert state["box"], "the box is answered"
    first = copy_of(page, tmp_path / "first.html")
    copied = show(first)
    copied.locator("#inside-heads button").first.wait_for()
    assert state_of(copied) == state
    assert copied.url == first.as_uri()
    second = copy_of(copied, tmp_path / "second.html")
    assert second.read_bytes() == first.read_bytes()
    # What the address names goes before the copy's own state.
    other = show(first, "#t=2&v=layers_heads")
    assert state_of(other)["on"][1:3] == ["t2", "v0"]
    assert other.input_value("#opacity") == "100"


def test_a_copy_without_its_script_shows_the_state_and_chooses(
    show: Show, record: Record, static_frames: int, tmp_path: Path
) -> None:
    page = show(page_of(record, tmp_path / "run.html", static_frames), f"#{STATE}")
    state_of(page)
    off = show(copy_of(page, tmp_path / "copy.html"), js=False)
    assert all(off.is_checked(f"#{name}") for name in ("t4", "m-map", "p-viridis", "s-shared", "b-prob"))
    maps = record.views["none"].on_grid()
    (shown,) = shown_maps(off)
    if static_frames:
        assert np.array_equal(shown, maps[4, 1, 2])
        off.click("label[for=t2]")
        (shown,) = shown_maps(off)
        assert np.array_equal(shown, maps[2, 1, 2])
    assert off.locator(".card h2:visible").count() == 1
    assert off.locator("noscript").count() == 0


def gallery_read(page: Any) -> None:
    """Goes to the gallery, which is made and laid out when it comes near the screen, until its text is there."""
    gallery = page.locator("#gallery")
    gallery.scroll_into_view_if_needed()
    expect(gallery).to_contain_text(re.compile("peak"), use_inner_text=True, timeout=20_000)


def test_a_copy_of_hostile_text_is_the_same_page(show: Show, tmp_path: Path) -> None:
    page = show(page_of(hostile_record(), tmp_path / "run.html"))
    settle(page)
    copy = copy_of(page, tmp_path / "copy.html")
    again = show(copy)
    settle(again)
    for one in (page, again):
        gallery_read(one)
    assert again.inner_text("body") == page.inner_text("body")
    plain, original = show(copy, js=False), show(tmp_path / "run.html", js=False)
    assert plain.inner_text("body") == original.inner_text("body")


def test_a_copy_of_one_of_several_grids_opens_on_that_grid(show: Show, tmp_path: Path) -> None:
    page = show(page_of(make_several(), tmp_path / "run.html"))
    settle(page)
    page.locator('fieldset[data-g="g1"] label').first.click()
    page.wait_for_load_state()
    state = state_of(page)
    copied = show(copy_of(page, tmp_path / "copy.html"))
    assert state_of(copied) == state


@pytest.mark.parametrize("js", [True, False], ids=["js", "no-js"])
def test_a_page_rendered_with_a_state_opens_in_it(show: Show, record: Record, js: bool, tmp_path: Path) -> None:
    full = STATE.replace("t=4&v=none&l=1&h=2", "token=4&view=none&layer=1&head=2")
    page = show(page_of(record, tmp_path / "run.html", opening=full), js=js)
    (shown,) = shown_maps(page)
    if js:
        assert told(page, "words")
        addressed = show(page_of(record, tmp_path / "plain.html"), f"#{STATE}")
        told(addressed, "words")
        assert state_of(page) == state_of(addressed)
    else:
        assert np.array_equal(shown, record.views["none"].on_grid()[4, 1, 2])
        assert all(page.is_checked(f"#{name}") for name in ("t4", "m-map", "p-viridis", "s-shared", "b-prob"))


def test_figures_and_tables_say_the_state(show: Show, record: Record, tmp_path: Path) -> None:
    page = show(page_of(record, tmp_path / "run.html"), "#t=4&v=none&l=1&h=2")
    settle(page)
    for kind, line in (
        ("svg", ">Shown: t=4&amp;v=none&amp;l=1&amp;h=2&amp;m=heat<"),
        ("csv", "# state: t=4&v=none&l=1&h=2&m=heat"),
    ):
        with page.expect_download() as download:
            page.click(f".looks [data-save={kind}]")
        text = Path(download.value.path()).read_text("utf-8")
        assert line in text
    assert render_report(record, opening="t=4&v=none&l=1&h=2&m=heat"), "a state that a file names is taken"
