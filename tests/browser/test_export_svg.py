"""Exported SVGs in a real browser: their letters have no serifs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llava_viewer.export import contact_sheet, figure, write_svg
from llava_viewer.export import show as llava_show
from support.synthetic import make_record

Show = Callable[..., Any]
FAMILIES = ["Source Sans 3", "Source Sans Pro", "Helvetica Neue", "Helvetica", "Arial", "DejaVu Sans", "sans-serif"]


def drawn_fonts(page: Any, selector: str) -> set[str]:
    """The fonts that Chromium really draws an element's letters with."""
    session = page.context.new_cdp_session(page)
    session.send("DOM.enable")
    session.send("CSS.enable")
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    node = session.send("DOM.querySelector", {"nodeId": root, "selector": selector})["nodeId"]
    return {font["familyName"] for font in session.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]}


def test_letters_have_no_serifs(show: Show, tmp_path: Path) -> None:
    shown = llava_show(make_record(words=("A", " red"), reductions=("layers_heads",)))
    for name, drawing in (("figure", figure(shown, shown.item())), ("sheet", contact_sheet(shown))):
        path = tmp_path / f"{name}.svg"
        write_svg(drawing, path)
        page = show(path)
        stated = page.evaluate("getComputedStyle(document.querySelector('text')).fontFamily")
        assert [family.strip("\"' ") for family in stated.split(",")] == FAMILIES
        fonts = drawn_fonts(page, "text")
        page.evaluate("document.documentElement.setAttribute('font-family', 'serif')")
        serif = drawn_fonts(page, "text")
        page.evaluate("document.documentElement.setAttribute('font-family', 'sans-serif')")
        plain = drawn_fonts(page, "text")
        assert fonts
        assert not fonts & (serif - plain)
        assert fonts <= {*FAMILIES, *plain}
