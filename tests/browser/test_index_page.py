"""The index in a real browser: links lead to reports, sorting and filtering work, nothing is needed for reading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llava_viewer.index import write_index
from llava_viewer.render import render_report
from llava_wire import encode
from support.synthetic import make_record

Show = Callable[..., Any]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for stem, prompt, share in (("a", "What is red?", 0.2), ("b #1", "Describe it.", 0.6), ("c", "How many?", 0.4)):
        record = make_record(prompt=prompt, image_share=share, reductions=("layers_heads",), words=("A", " red"))
        (folder / f"{stem}.npz").write_bytes(encode(record))
        (folder / f"{stem}.html").write_text(render_report(record), encoding="utf-8")
    (folder / "broken.npz").write_bytes(b"PK")
    return write_index(folder)


def headings(page: Any) -> list[str]:
    found: list[str] = page.locator(".run:visible h2").all_inner_texts()
    return found


@pytest.mark.parametrize("js", [True, False], ids=["js", "no-js"])
def test_links_open_the_reports(show: Show, index: Path, js: bool) -> None:
    page = show(index, js=js)
    assert headings(page) == ["What is red?", "Describe it.", "How many?"]
    assert "broken.npz was skipped" in page.inner_text(".notes")
    page.locator(".run").nth(1).click()
    page.wait_for_url("**/b%20%231.html")
    assert page.inner_text("h1") == "Describe it."


def test_filter_and_sort(show: Show, index: Path) -> None:
    page = show(index)
    page.fill("#filter", "many")
    assert headings(page) == ["How many?"]
    page.fill("#filter", "nothing like it")
    assert page.is_visible("#none")
    page.fill("#filter", "")
    page.select_option("#sort", "share")
    assert headings(page) == ["Describe it.", "How many?", "What is red?"]
    page.select_option("#sort", "prompt")
    assert headings(page) == ["Describe it.", "How many?", "What is red?"]
    page.select_option("#sort", "name")
    assert headings(page) == ["What is red?", "Describe it.", "How many?"]


def test_thumbnails_are_loaded(show: Show, index: Path) -> None:
    page = show(index)
    assert page.locator(".shot img").evaluate_all("all => all.every(img => img.complete && img.naturalWidth > 100)")
