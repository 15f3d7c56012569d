"""Pages in Firefox: painted with scripts on, off and blocked by the host, with the chosen word's map on the stage."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from llava_viewer.look import colormap
from llava_viewer.pages.compare import Pick, render_compare
from llava_viewer.pages.index import write_index
from llava_viewer.pages.report import render_report
from llava_wire import encode
from support.marionette import Firefox
from support.synthetic import make_record

Paint = Callable[..., np.ndarray]
BRIGHTEST = colormap.lookup("inferno", np.array([1.0]))[0]
BLOCKED = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"


class Host(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; names that begin with "blocked" come with a policy that allows no inline script."""

    def end_headers(self) -> None:
        if self.path.startswith("/blocked"):
            self.send_header("Content-Security-Policy", BLOCKED)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def browsers(firefox: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, Firefox]]:
    """Firefox by whether it runs scripts."""
    profiles = {scripts: tmp_path_factory.mktemp("profile") for scripts in (True, False)}
    with (
        Firefox(firefox, profiles[True], scripts=True) as on,
        Firefox(firefox, profiles[False], scripts=False) as off,
    ):
        yield {True: on, False: off}


@pytest.fixture
def paint(browsers: dict[bool, Firefox], tmp_path: Path) -> Iterator[Paint]:
    """What Firefox paints of a page, [rows, columns, 3] int."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: Host(*given, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def painted(html: str, fragment: str, *, scripts: str = "on") -> np.ndarray:
        name = "blocked.html" if scripts == "blocked" else "page.html"
        (tmp_path / name).write_text(html, encoding="utf-8")
        address = f"http://127.0.0.1:{server.server_address[1]}/{name}{fragment}"
        picture = browsers[scripts != "off"].picture(address, 1200, 1700)
        assert len(np.unique(picture @ [1 << 16, 1 << 8, 1])) > 500
        return picture

    yield painted
    server.shutdown()
    server.server_close()


def count(picture: np.ndarray, colour: np.ndarray, within: int = 3) -> int:
    """How many px have a colour, give or take."""
    return int((np.abs(picture - colour).max(axis=-1) <= within).sum())


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two pictures show the same; Firefox scales a photograph in two ways, which differ at a few edges."""
    return bool((np.abs(one - other).max(axis=-1) >= 48).sum() < 200)


def test_a_report_is_painted(paint: Paint) -> None:
    html = render_report(make_record())
    # With the script the link's palette is on the stage: its ground and its brightest patch. Without: cividis heat.
    dark = colormap.lookup("inferno", np.array([0.02]))[0]
    shots = {scripts: paint(html, "#t=2&m=map&p=inferno", scripts=scripts) for scripts in ("on", "off", "blocked")}
    for scripts, picture in shots.items():
        assert (count(picture, dark, 12) > 40_000) == (scripts == "on"), scripts
        assert (count(picture, BRIGHTEST) > 400) == (scripts == "on"), scripts
    assert same(shots["blocked"], shots["off"]), "a script that is blocked is a script that is off"


def test_a_comparison_is_painted(paint: Paint) -> None:
    record = make_record()
    picks = [Pick(record, "a.npz", "heads", layer=0), Pick(record, "b.npz", "heads", layer=1)]
    html, fragment = render_compare(picks), "#a=2&b=5&m=map&p=inferno&s=token"
    assert count(paint(html, fragment), BRIGHTEST) > 800, "a brightest patch in both runs"
    off, blocked = (paint(html, fragment, scripts=scripts) for scripts in ("off", "blocked"))
    assert same(blocked, off)


def test_an_index_is_painted(paint: Paint, tmp_path: Path) -> None:
    (tmp_path / "run.npz").write_bytes(encode(make_record()))
    html = write_index(tmp_path).read_text("utf-8")
    on, off, blocked = (paint(html, "", scripts=scripts) for scripts in ("on", "off", "blocked"))
    assert same(blocked, off)
    assert not same(on, off), "the filter needs the script"


def test_words_are_taken_by_shift_by_selecting_and_by_the_button(
    paint: Paint, browsers: dict[bool, Firefox], tmp_path: Path
) -> None:
    paint(render_report(make_record()), "#t=1")
    page = browsers[True]

    def chosen() -> list[str]:
        time.sleep(0.5)  # a selection is taken when it has rested
        return list(page.script("return [...document.querySelectorAll('.answer .tok.on')].map((one) => one.htmlFor)"))

    page.click("label.tok[for=t2]", shift=True)
    assert chosen() == ["t1", "t2"]
    page.click("#more")
    assert chosen() == ["t1", "t2", "t3"]
    page.click("label.tok[for=t7]")
    assert chosen() == ["t7"]
    page.click("label.tok[for=t9]")
    assert chosen() == ["t8", "t9"], "a word of two pieces"
    select = "getSelection().setBaseAndExtent(find('t4'), 1, find('t6'), 1)"
    page.script(f"const find = (id) => document.querySelector(`.tok[for=${{id}}]`).firstChild; {select}")
    assert chosen() == ["t4", "t5", "t6"]
    assert page.script("return location.hash").startswith("#t=4,5,6&")
