"""The card's bar with separators, of single maps, means and blocks: the script says what the page says without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llava_viewer.look.wording import percent
from llava_viewer.pages.report import render_report
from llava_wire.record import Record
from llava_wire.view import View
from support.several import make_separated

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
Show = Callable[..., Any]


def one_view(precision: str) -> Record:
    record = make_separated()
    view = record.views["attention"]
    facts = replace(view.facts, precision=precision)  # type: ignore[arg-type]
    made = View.of(facts, view.patches_float(), view.shares, record.grids, separators=view.separators)
    return replace(record, views={"attention": made})


def card(page: Any) -> list[str]:
    """The numbers beside the names of a row's parts."""
    lines: list[str] = page.locator(".parts:visible dd:visible").inner_text().split("\n")
    return [line for line in lines if line]


@pytest.mark.parametrize("precision", ["float32", "blocks"])
@pytest.mark.parametrize("static", [True, False], ids=["elements", "atlas"])
def test_the_card_splits_a_row_into_separators_too(
    show: Show, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, static: bool
) -> None:
    if not static:
        monkeypatch.setattr("llava_viewer.look.frames.MAX_STATIC_FRAMES", 1)
    record = one_view(precision)
    path = tmp_path / "run.html"
    path.write_text(render_report(record), encoding="utf-8")
    split = record.views["attention"].split()
    assert split is not None
    told = []
    for js in (False, True):
        page = show(path, js=js)
        page.click("label.tok[for=t1]")
        if js:
            page.wait_for_selector("#stage[aria-busy=false]")
        assert page.locator(".parts:visible dt").all_inner_texts() == [
            "first token", "this grid", "prompt", "answer", "separators", "other grids",
        ]  # fmt: skip
        told.append(card(page))
    mean = split[1].mean((0, 1))
    assert told[0] == told[1]
    assert told[1][2:5] == [percent(float(part)) for part in mean[2:]]
    for layer, head, wanted in (("1", "2", split[1, 1, 2]), ("1", None, split[1, 1].mean(0))):
        page.select_option("#pick-layer select", label=layer)
        page.select_option("#pick-head select", **({"label": head} if head else {"index": 0}))
        says = "said => document.querySelector('#parts').innerText.split('\\n').filter(Boolean)[4] === said"
        page.wait_for_function(says, arg=percent(float(wanted[4])))
        read = [float(text.split("\u00a0")[0].rstrip("%")) for text in card(page)]
        assert len(read) == 6
        np.testing.assert_allclose(sum(read), 100, atol=1.5)
