"""A record inline in a notebook's page: the report works in its frame and does not touch the page around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.synthetic import make_record


def test_the_report_works_inside_another_page(show: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "notebook.html"
    shown = make_record(reductions=("layers_heads",))._repr_html_()
    path.write_text(f"<!doctype html><title>n</title><h1>Notebook</h1>{shown}", encoding="utf-8")
    page = show(path)
    frame = page.frames[1]
    frame.click("label.tok[for=t4]")
    assert frame.is_checked("#t4")
    frame.click("label[for=m-map]")
    frame.click("nav a[href='#gallery']")
    # A click has been made before the frame has gone where it leads.
    frame.wait_for_function("() => location.hash === '#gallery'")
    assert page.url == path.as_uri(), "the page around it stays"
    assert page.inner_text("h1") == "Notebook"
