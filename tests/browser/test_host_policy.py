"""Pages on hosts with a policy of their own: with scripts on, off, and on but blocked they show what they should."""

from __future__ import annotations

import http.server
import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser.conftest import TOUR_SEEN
from browser.test_report_page import choose, shown_maps
from PIL import Image as PillowImage

from llava_viewer.pages.compare import Pick, render_compare
from llava_viewer.pages.index import write_index
from llava_viewer.pages.report import render_report
from llava_wire import encode
from support.synthetic import make_record

NO_SCRIPTS = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
NONCES = "default-src 'none'; script-src 'nonce-abc' 'strict-dynamic'; style-src 'unsafe-inline'; img-src * data:"
NO_WRITING = "require-trusted-types-for 'script'"
NOTHING = "sandbox allow-same-origin; default-src 'none'; img-src 'self'; style-src 'self'"
SOURCE = ("</div", "/>", "<svg", "<use", "data:image", "hold()", "=>")
PAGES = pytest.mark.parametrize("name", ["report.html", "index.html", "compare.html"])
RECORD = make_record(pairs=((0, 1), (1, 2)), prompt="What is there?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report, an index and a comparison."""
    made = tmp_path_factory.mktemp("pages")
    (made / "report.html").write_text(render_report(RECORD), encoding="utf-8")
    picks = [Pick(RECORD, "a.npz", "heads", layer=0), Pick(RECORD, "b.npz", "heads", layer=1)]
    (made / "compare.html").write_text(render_compare(picks), encoding="utf-8")
    (made / "run.npz").write_bytes(encode(RECORD))
    write_index(made)
    return made


@pytest.fixture
def host(folder: Path, chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page of `folder` as a host with this policy serves it."""
    opened: list[Any] = []

    def visit(name: str, policy: str = "", *, js: bool = True) -> Any:
        class Host(http.server.SimpleHTTPRequestHandler):
            def end_headers(self) -> None:
                if policy:
                    self.send_header("Content-Security-Policy", policy)
                super().end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: Host(*given, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        context = chromium.new_context(java_script_enabled=js, viewport={"width": 1200, "height": 1700})
        context.set_default_timeout(120_000)
        context.add_init_script(TOUR_SEEN)
        opened.append((server, context))
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/{name}")
        return page

    yield visit
    for server, context in opened:
        context.close()
        server.shutdown()
        server.server_close()


def seen(page: Any) -> np.ndarray:
    """The whole page as painted, [row, col, 3] int."""
    shot = page.screenshot(full_page=True, animations="disabled")
    return np.asarray(PillowImage.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def look_alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two pages are painted the same. The edge of a letter may differ by 1 of 255: browsers draw glyphs that
    they have kept and fresh ones with other roundings."""
    return one.shape == other.shape and int(np.abs(one - other).max()) <= 1


@PAGES
@pytest.mark.parametrize("policy", [NO_SCRIPTS, NONCES, NO_WRITING], ids=["self", "nonces", "trusted-types"])
def test_blocked_scripts_show_what_scripts_that_are_off_show(host: Callable[..., Any], name: str, policy: str) -> None:
    if policy == NO_WRITING and name != "report.html":
        pytest.skip("only the report's script writes markup into its page")
    off, blocked = host(name, js=False), host(name, policy)
    # What lies below is laid out, and images there are loaded, when a busy machine comes to it.
    until = time.monotonic() + 20
    while not (same := look_alike(seen(blocked), seen(off))) and time.monotonic() < until:
        time.sleep(0.2)
    assert same
    assert blocked.inner_text("body") == off.inner_text("body")
    assert blocked.locator("html.js").count() == 0


@PAGES
@pytest.mark.parametrize("state", ["on", "off", "blocked"])
def test_no_source_is_ever_shown_as_text(host: Callable[..., Any], name: str, state: str) -> None:
    page = host(name, NO_SCRIPTS if state == "blocked" else "", js=state != "off")
    if name == "report.html" and state == "on":
        page.wait_for_selector("#stage[aria-busy=false]")
        page.locator("#gallery").scroll_into_view_if_needed()
        page.wait_for_selector("#gallery figure")
    text = page.inner_text("body")
    assert RECORD.facts.prompt.text in text
    assert not any(sign in text for sign in SOURCE)
    assert not page.locator(".bare").is_visible()


def test_a_report_whose_scripts_are_blocked_chooses_words_views_and_maps(host: Callable[..., Any]) -> None:
    page = host("report.html", NO_SCRIPTS)
    for token in (3, 0):
        choose(page, f"t{token}")
        (shown,) = shown_maps(page)
        assert np.array_equal(shown, RECORD.views["layers_heads"].on_grid()[token])
        assert page.locator(".card h2:visible").all_inner_texts() == [RECORD.tokens[token].text.strip()]
        for part in (".peaks use", ".ramp b", ".card .share", ".card .parts dd", ".card .tops", ".card .top5"):
            assert page.locator(f"{part}:visible").count() == 1, part
    choose(page, f"v{list(RECORD.views).index('all')}")
    (shown,) = shown_maps(page)
    assert np.array_equal(shown, RECORD.views["all"].on_grid())
    assert page.locator(".gallery figure:visible").count() == 1


def test_a_comparison_whose_scripts_are_blocked_chooses_words(host: Callable[..., Any]) -> None:
    page = host("compare.html", NO_SCRIPTS)
    page.click("label[for=a-t2]")
    assert page.locator("#stage-a .heat image:visible").count() == 1
    assert page.locator("#stage-a .heat image.a-t2").is_visible()


@PAGES
def test_a_host_that_blocks_styles_too_says_what_to_do(host: Callable[..., Any], name: str) -> None:
    page = host(name, NOTHING)
    assert "save the file and open it from your disk" in page.locator(".bare").inner_text()
    assert not any(sign in page.inner_text("body") for sign in SOURCE)
