"""The index in a real browser: links lead to reports, sorting and filtering work, nothing is needed for reading."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llava_viewer.pages.index import write_index
from llava_viewer.pages.report import render_report
from llava_wire import encode
from llava_wire.schema import Annotations
from support.golden import hostile_record
from support.synthetic import make_record

Show = Callable[..., Any]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for stem, prompt, share in (("a", "What is red?", 0.2), ("b #1", "Describe it.", 0.6), ("c", "How many?", 0.4)):
        seed = 1 if stem == "c" else 0
        record = make_record(
            prompt=prompt, image_share=share, reductions=("layers_heads",), words=("A", " red"), seed=seed
        )
        if stem == "c":
            model = replace(record.facts.model, name="another")
            record = replace(record, facts=replace(record.facts, model=model))
        (folder / f"{stem}.npz").write_bytes(encode(record))
        (folder / f"{stem}.html").write_text(render_report(record), encoding="utf-8")
    (folder / "broken.npz").write_bytes(b"PK")
    return write_index(folder)


def headings(page: Any) -> list[str]:
    found: list[str] = page.locator(".run:visible h2").all_text_contents()
    return found


@pytest.mark.parametrize("js", [True, False], ids=["js", "no-js"])
def test_links_open_the_reports(show: Show, index: Path, js: bool) -> None:
    page = show(index, js=js)
    assert headings(page) == ["What is red?", "Describe it.", "How many?"]
    page.click("summary")
    assert "broken.npz was skipped" in page.inner_text(".notes")
    page.locator(".run").nth(1).click()
    page.wait_for_url("**/b%20%231.html")
    assert page.inner_text("h1") == "Describe it."


def test_filter_and_sort(show: Show, index: Path) -> None:
    page = show(index)
    page.fill("#q", "many")
    assert headings(page) == ["How many?"]
    page.fill("#q", "nothing like it")
    assert page.is_visible("#none")
    page.click("#reset")
    page.select_option("#sort", "share")
    assert headings(page) == ["Describe it.", "How many?", "What is red?"]
    page.click("#order")
    assert headings(page) == ["What is red?", "How many?", "Describe it."]
    page.click("#order")
    page.select_option("#sort", "prompt")
    assert headings(page) == ["Describe it.", "How many?", "What is red?"]
    page.select_option("#sort", "name")
    assert headings(page) == ["What is red?", "Describe it.", "How many?"]


def test_models_views_and_shares_narrow_the_list_and_a_link_opens_it_again(show: Show, index: Path) -> None:
    page = show(index)
    page.select_option("#model", "another")
    assert headings(page) == ["How many?"]
    page.select_option("#model", "")
    page.locator("#share").fill("35")
    assert headings(page) == ["Describe it.", "How many?"]
    assert page.inner_text("#shown") == "2 of 3 shown"
    page.select_option("#sort", "tokens")
    page.wait_for_url(lambda url: url.endswith("#share=35&sort=tokens"))
    again = show(index, "#q=it&share=35&sort=share&order=reverse")
    assert headings(again) == ["Describe it."]
    again.click("#reset")
    assert headings(again) == ["What is red?", "Describe it.", "How many?"]
    for control in ("view", "tag", "what"):
        assert again.locator(f"#{control}").count() == 0, "no choice, no control"


def test_verdicts_tags_and_the_need_of_the_image_narrow_the_list(show: Show, tmp_path: Path) -> None:
    """ "Which answers did not look": two gestures from the opened page."""
    plain = make_record(reductions=("layers_heads",), words=("A", " red"))
    for stem, right, needing, tags in (
        ("a", True, 2, ("red", "a <b>")),
        ("b", False, 0, ("red",)),
        ("c", None, None, ()),
    ):
        checks = {} if needing is None else {"image": {"result": "measured", "needing": needing, "of": 2, "nats": 1.0}}
        said = Annotations(right=right, tags=tags) if tags else None
        prompt = replace(plain.facts.prompt, text=stem)
        record = replace(plain, facts=replace(plain.facts, annotations=said, checks=checks, prompt=prompt))
        (tmp_path / f"{stem}.npz").write_bytes(encode(record))
    page = show(write_index(tmp_path))
    for what, left in (("wrong", ["b"]), ("right", ["a"]), ("needs", ["a"]), ("blind", ["b"]), ("", ["a", "b", "c"])):
        page.select_option("#what", what)
        assert headings(page) == left, what
    page.select_option("#tag", "a <b>")
    assert headings(page) == ["a"]
    page.wait_for_url(lambda url: url.endswith("#tag=a+%3Cb%3E"))
    page.click("#reset")
    page.locator("#most").fill("10")
    assert headings(page) == []
    page.click("#reset")
    page.select_option("#sort", "needing")
    assert headings(page)[0] == "a"


def test_chosen_runs_make_a_command_to_compare_them(show: Show, index: Path) -> None:
    page = show(index)
    boxes = page.locator(".compare")
    boxes.nth(1).check()
    assert "Choose one to three more" in page.inner_text("#tray")
    boxes.nth(0).check()
    assert page.inner_text("#command") == "llava-viewer compare a.npz 'b #1.npz' -o compare.html"
    assert "source .venv/bin/activate" in page.inner_text("#tray"), "how the command is found"
    boxes.nth(2).check()
    assert "different images or grids" in page.inner_text("#tray")
    assert page.inner_text("#command") == ""
    assert "activate" not in page.inner_text("#tray")
    page.click("#clear")
    assert not page.is_visible("#tray")


def test_hostile_records_and_names_do_nothing(show: Show, tmp_path: Path) -> None:
    for name in ("javascript:alert(1)", "$(touch x) 'y'", "-o", "\x1b[31m\u202e"):
        (tmp_path / f"{name}.npz").write_bytes(encode(hostile_record()))
    page = show(write_index(tmp_path))
    assert page.locator("[onerror], [onmouseover]").count() == 0
    assert page.locator(".run").count() == 4
    for box in page.locator(".compare").all():
        box.check()
    assert page.locator(".compare").count() == 3, "a name that cannot be shown as it is gets no command"
    words = shlex.split(page.inner_text("#command"))
    assert sorted(words[2:-2]) == ["$(touch x) 'y'.npz", "./-o.npz", "javascript:alert(1).npz"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(show: Show, index: Path, inspect_access: Callable[[Any], list[str]], theme: str) -> None:
    page = show(index, color_scheme=theme)
    page.locator(".compare").first.check()
    page.click("summary")
    assert not inspect_access(page)


def test_nothing_overflows_a_phone(show: Show, index: Path) -> None:
    page = show(index, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_phone_shows_the_first_run_and_folds_the_filters_but_those_that_act(show: Show, index: Path) -> None:
    phone = {"width": 390, "height": 844}
    page = show(index, viewport=phone)
    box = page.locator(".run").first.bounding_box()
    assert box["y"] < 844 / 2, "the first run begins in the upper half"
    assert page.locator("#sort").is_hidden()
    page.check("#folded")
    assert page.locator("#sort").is_visible()
    page.select_option("#sort", "share")
    assert headings(page)[0] == "Describe it."
    again = show(index, "#sort=share", viewport=phone)
    assert again.locator("#sort").is_visible(), "what acts is seen"
    assert show(index, "#q=red", viewport=phone).locator("#sort").is_hidden()
    assert show(index).locator("#folded").is_hidden(), "nothing is folded where there is room"


def test_hundreds_of_runs_filter_at_once(show: Show, tmp_path: Path) -> None:
    data = encode(make_record(reductions=("layers_heads",), words=("A",)))
    for number in range(300):
        (tmp_path / f"run {number:03}.npz").write_bytes(data)
    page = show(write_index(tmp_path))
    page.fill("#q", "run 29")
    assert page.inner_text("#shown") == "13 of 300 shown"


def test_thumbnails_are_loaded(show: Show, index: Path) -> None:
    page = show(index)
    assert page.locator(".shot img").evaluate_all("all => all.every(img => img.complete && img.naturalWidth > 100)")
