"""The page of an evaluation in a browser: what is wider than a phone scrolls in its place, and shows that it does."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from llava_viewer.cli.main import main
from llava_viewer.data.items import Item
from llava_wire import decode, encode
from support.runs import Made, data_of, record_of, worked

Show = Callable[..., Any]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    data = data_of(folder / "data", 4)
    worked(folder / "out", data, Made(data.parent))
    boxes = {f"q{number}": {"red circle": [0, 0, 32, 24]} for number in range(4)}
    (folder / "boxes.json").write_text(str(boxes).replace("'", '"'), encoding="utf-8")
    assert main(["evaluate", str(folder / "out"), "--truth", str(folder / "boxes.json")]) == 0
    return folder / "out" / "evaluation" / "index.html"


def edges(page: Any, place: Any) -> tuple[float, float]:
    """How much darker than the page the left and the right edge of a place are at their darkest, 0 to 255."""
    frame = place.bounding_box()
    low = frame["y"] + frame["height"] - 3
    found = []
    for x in (frame["x"], frame["x"] + frame["width"] - 2):
        shot = page.screenshot(clip={"x": x, "y": low - 8, "width": 2, "height": 2})
        found.append(250 - float(np.asarray(PillowImage.open(io.BytesIO(shot)).convert("L")).mean()))
    return found[0], found[1]


def test_a_table_that_is_wider_than_a_phone_is_marked_at_the_edge_behind_which_more_stands(
    show: Show, page_file: Path
) -> None:
    page = show(page_file, viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    place = page.locator(".wide", has=page.locator("#maps-table"))
    place.scroll_into_view_if_needed()
    assert place.evaluate("one => one.scrollWidth > one.clientWidth")
    left, right = edges(page, place)
    assert right > 20 > 5 > left
    place.evaluate("one => { one.scrollLeft = one.scrollWidth; }")
    left, right = edges(page, place)
    assert left > 20 > 5 > right
    wide = show(page_file, viewport={"width": 1900, "height": 900})
    place = wide.locator(".wide", has=wide.locator("#answers-table"))
    place.scroll_into_view_if_needed()
    assert max(edges(wide, place)) < 5, "nothing is hidden"


@pytest.fixture(scope="module")
def against_file(page_file: Path) -> Path:
    """The same run against one that answers nothing rightly."""
    store, other = page_file.parents[1], page_file.parents[2] / "other"
    data = store.parent / "data" / "items.jsonl"

    def wrong(item: Item) -> bytes:
        record = decode(record_of(item))
        return encode(record.with_facts(replace(record.facts, answer="a blue circle")))

    worked(other, data, Made(data.parent, before=wrong))
    assert main(["evaluate", str(store), "--against", str(other)]) == 0
    return store / "evaluation-against-other" / "index.html"


def test_two_runs_stand_beside_each_other_on_a_phone(
    show: Show, against_file: Path, inspect_access: Callable[[Any], list[str]]
) -> None:
    for options in ({}, {"color_scheme": "dark"}):
        page = show(against_file, viewport={"width": 390, "height": 844}, **options)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("#against").inner_text().startswith("Against ")
        assert page.locator("#against-table").count() == 1
        assert page.locator("section:has(#against) .worst li").count() == 4
        assert not inspect_access(page)


def test_axe_finds_nothing(show: Show, page_file: Path, inspect_access: Callable[[Any], list[str]]) -> None:
    for options in ({}, {"color_scheme": "dark"}):
        page = show(page_file, viewport={"width": 390, "height": 844}, **options)
        assert not inspect_access(page)
