"""The line with what a row's total splits into: the same with and without the page's script."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llava_viewer.look.units import Unit
from llava_viewer.pages.report import render_report
from support.several import CONTRIBUTION, PARTS, make_split


@pytest.mark.parametrize("js", [True, False])
def test_the_card_says_how_the_total_splits(show: Callable[..., Any], tmp_path: Path, js: bool) -> None:
    record, unit = make_split(), Unit(CONTRIBUTION)
    path = tmp_path / "run.html"
    path.write_text(render_report(record), encoding="utf-8")
    page = show(path, js=js)

    def chosen(view: int, token: int) -> str:
        page.locator(f'label[for="v{view}"]').click()
        page.locator(f'.words label[for="t{token}"]').click()
        if js:
            page.locator('#stage[aria-busy="false"]').wait_for()
        return page.locator(".card").inner_text()

    rows = record.views["split"].parts.tolist()
    for token in (3, 0):
        text = chosen(1, token)
        assert unit.split(PARTS, rows[token]) in text
        assert text.count("itself") == 1
    assert unit.split(PARTS, record.views["whole"].parts.tolist()) in chosen(2, 3)
    assert "itself" not in chosen(0, 3)
