"""What assistive technology and forced colours get of a page: each word's own name, and what is chosen."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser.test_report_page import choose, settle
from PIL import Image as PillowImage

from llava_viewer.pages.compare import Pick, render_compare
from llava_viewer.pages.index import write_index
from llava_viewer.pages.report import render_report
from llava_wire import encode
from support.synthetic import make_record

Show = Callable[..., Any]
BOTH = pytest.mark.parametrize("js", [True, False], ids=["js", "no-js"])
RECORD = make_record(reductions=("layers_heads", "heads"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("access") / "run.html"
    path.write_text(render_report(RECORD), encoding="utf-8")
    return path


def names(page: Any, role: str) -> list[str]:
    """The accessible names of all elements of a role, as the browser gives them to assistive technology."""
    session = page.context.new_cdp_session(page)
    session.send("Accessibility.enable")
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    return [node["name"]["value"] for node in nodes if not node["ignored"] and node["role"]["value"] == role]


@BOTH
def test_each_words_name_is_the_word_also_when_the_gallery_is_drawn(show: Show, report: Path, js: bool) -> None:
    page = show(report, js=js)
    page.locator("#gallery").scroll_into_view_if_needed()
    page.wait_for_selector("#gallery figure >> visible=true")
    words = [token.text.strip() or token.piece for token in RECORD.tokens]
    found = names(page, "radio")
    start = found.index(words[0])
    assert found[start : start + len(words)] == words


def assert_legible(page: Any, name: str) -> None:
    """The letters of a chosen label have a colour apart from the ground, and no plate of the browser's under them."""
    look = page.evaluate(
        """name => { const it = getComputedStyle(document.querySelector(`label[for=${name}]`));
            return [it.forcedColorAdjust, it.color, it.backgroundColor]; }""",
        name,
    )
    assert look[0] == "none"
    assert look[1] != look[2]


def colour(page: Any, selector: str) -> np.ndarray:
    """The mean colour of an element as painted."""
    picture = PillowImage.open(io.BytesIO(page.locator(selector).first.screenshot())).convert("RGB")
    return np.asarray(picture).reshape(-1, 3).mean(axis=0)


@BOTH
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_forced_colours_show_what_is_chosen_in_a_report(show: Show, report: Path, js: bool, scheme: str) -> None:
    page = show(report, js=js, forced_colors="active", color_scheme=scheme)
    settle(page)
    for name in ("m-map", "p-viridis", "s-shared", "b-prob", "th-dark", "v1"):
        before = colour(page, f"label[for={name}]")
        choose(page, name)
        page.mouse.move(0, 0)
        assert np.abs(colour(page, f"label[for={name}]") - before).max() > 60, name
        assert_legible(page, name)
    ring = "word => getComputedStyle(document.querySelector(`.words [for=${word}]`)).outline"
    for word, other in (("t2", "t7"), ("t7", "t2")):
        choose(page, word)
        assert "solid" in page.evaluate(ring, word)
        assert "none" in page.evaluate(ring, other)


@BOTH
def test_forced_colours_show_what_is_chosen_in_comparison_and_index(show: Show, tmp_path: Path, js: bool) -> None:
    compare = tmp_path / "compare.html"
    compare.write_text(render_compare([Pick(RECORD, "a"), Pick(RECORD, "b")]), encoding="utf-8")
    (tmp_path / "run.npz").write_bytes(encode(RECORD))
    for path, chosen in ((compare, ("m-map", "th-dark")), (write_index(tmp_path), ("th-dark",))):
        page = show(path, js=js, forced_colors="active")
        for name in chosen:
            before = colour(page, f"label[for={name}]")
            page.click(f"label[for={name}]")
            page.mouse.move(0, 0)
            assert np.abs(colour(page, f"label[for={name}]") - before).max() > 60, name
            assert_legible(page, name)
