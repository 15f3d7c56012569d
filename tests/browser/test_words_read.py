"""The words that a row read, in the card: the same with and without the page's script, on every grid, on a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llava_viewer.look.rows import words_read
from llava_viewer.pages.report import render_report
from support.several import make_worded


@pytest.mark.parametrize("js", [True, False])
def test_the_card_names_the_words_of_the_chosen_token(show: Callable[..., Any], tmp_path: Path, js: bool) -> None:
    record = make_worded()
    path = tmp_path / "run.html"
    path.write_text(render_report(record), encoding="utf-8")
    page = show(path, js=js)
    wanted = words_read(record)
    for token in (3, 0):
        page.locator(f'.words label[for="t{token}"]').click()
        if js:
            page.locator('#stage[aria-busy="false"]').wait_for()
        shown = page.locator(".card .reads:visible mark").all_inner_texts()
        words = [word for view in wanted[token] for word in (*view.prompt, *view.answer)]
        assert [" ".join(text.split()) for text in shown] == [
            " ".join(f"{text} {value}".split()) for text, value, _ in words
        ]
    page.set_viewport_size({"width": 390, "height": 844})
    ends = "(marks) => Math.max(...marks.map((one) => one.getBoundingClientRect().right))"
    assert page.locator(".card .reads:visible mark").evaluate_all(ends) <= 390
