"""Many grids and notes leave the image in sight: the switch of grids is one line, several notes are one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llava_viewer.pages.report import render_report
from llava_wire.schema import Note
from support.several import make_several

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
Show = Callable[..., Any]
BOTH = pytest.mark.parametrize("js", [True, False], ids=["js", "no-js"])
SHOWN = """() => {
  const boxes = [...document.querySelectorAll('.stage')].map((one) => one.getBoundingClientRect());
  const box = boxes.find((one) => one.height);
  const strip = document.querySelector('.grids').getBoundingClientRect();
  const chosen = document.querySelector('input[name=v]:checked').closest('fieldset').getBoundingClientRect();
  const within = Math.min(chosen.right, strip.right) - Math.max(chosen.left, strip.left);
  return {
    seen: (Math.min(box.bottom, innerHeight) - Math.max(0, box.top)) / box.height,
    line: strip.height, under: box.top - strip.bottom, wide: document.documentElement.scrollWidth - innerWidth,
    chosen: within >= Math.min(chosen.width, strip.width) - 4,
  };
}"""
NOTES = tuple(
    Note(f"n{i}", field, f"Note {i}: what a reader must know of this {field}, in a sentence as long as they are.")
    for i, field in enumerate(("model", "image", "model", "prompt", "model", "model"))
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    record = make_several()
    path = tmp_path_factory.mktemp("report") / "run.html"
    path.write_text(render_report(replace(record, facts=replace(record.facts, notes=NOTES))), encoding="utf-8")
    return path


@BOTH
@pytest.mark.parametrize(("width", "height"), [(1280, 720), (390, 844)])
def test_a_report_of_many_grids_opens_on_its_image(show: Show, report: Path, js: bool, width: int, height: int) -> None:
    page = show(report, js=js, viewport={"width": width, "height": height})
    found = page.evaluate(SHOWN)
    if js:  # without the script a strip of every layer and head stands above the image
        assert found["seen"] >= 0.9
    assert found["line"] < 60
    assert found["wide"] <= 0
    assert found["under"] >= 0


def test_the_chosen_grid_is_in_sight_in_its_line(show: Show, report: Path) -> None:
    page = show(report, "#v=surprise on detail", viewport={"width": 1280, "height": 720})
    assert page.evaluate(SHOWN)["chosen"]
    page.locator(".grids").evaluate("strip => { strip.scrollLeft = 0; }")
    assert not page.evaluate(SHOWN)["chosen"]


@BOTH
def test_several_notes_are_one_line_and_all_are_there(show: Show, report: Path, js: bool) -> None:
    page = show(report, js=js)
    notes = page.locator(".notes")
    # What is true of this answer comes before what is true of the model at each.
    assert notes.inner_text().startswith("7 notes Note 1: what a reader must know of this image")
    assert page.locator(".notes li:visible").count() == 0
    page.click(".notes summary")
    told = [text.split(":")[0] for text in page.locator(".notes li").all_inner_texts()]
    assert told[:2] == ["Note 1", "Note 3"]
    assert "carries no image" in told[2]
    assert told[3:] == ["Note 0", "Note 2", "Note 4", "Note 5"]
