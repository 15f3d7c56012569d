"""A long answer on its first opening: image and chosen word are in sight, and the three steps cover neither."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser.test_report_page import settle

from llava_viewer.pages.report import render_report
from support.synthetic import make_record

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
WORDS = (("The", " handle", " of", " a", " cup", ",", " and", " its", " spoon", ".") * 13)[:130]
WHERE = """() => {
    const side = (one) => one.getBoundingClientRect().toJSON();
    const word = document.querySelector(`.answer label[for=${document.querySelector(".reader > input:checked").id}]`);
    return { word: side(word), words: side(word.closest(".words")), tour: side(document.getElementById("tour")),
             stage: side(document.getElementById("stage")) };
}"""


def apart(one: dict[str, float], other: dict[str, float]) -> bool:
    return (
        one["right"] <= other["left"]
        or other["right"] <= one["left"]
        or one["bottom"] <= other["top"]
        or other["bottom"] <= one["top"]
    )


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (390, 844)])
def test_image_and_chosen_word_are_in_sight(chromium: Any, tmp_path: Path, width: int, height: int) -> None:
    record = make_record(words=WORDS, width_px=600, height_px=400, reductions=("layers_heads", "heads"), seed=3)
    path = tmp_path / "run.html"
    path.write_text(render_report(record), encoding="utf-8")
    touched = {"is_mobile": True, "has_touch": True} if width < 500 else {}
    context = chromium.new_context(viewport={"width": width, "height": height}, **touched)
    page = context.new_page()
    page.goto(path.as_uri())
    settle(page)
    expect(page.locator("#tour")).to_contain_text("1/3")
    found = page.evaluate(WHERE)
    context.close()
    word, stage = found["word"], found["stage"]
    assert stage["top"] >= 0
    assert (height - stage["top"]) / (stage["bottom"] - stage["top"]) >= 0.9
    assert found["words"]["top"] <= word["top"] < word["bottom"] <= min(found["words"]["bottom"], height)
    assert apart(found["tour"], stage)
    assert apart(found["tour"], word)
