"""Pages in Firefox: they are painted, with the chosen word's map on the stage; a report without its script too."""

from __future__ import annotations

import http.server
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from llava_viewer import colormap
from llava_viewer.compare import Pick, render_compare
from llava_viewer.render import render_report
from support.synthetic import make_record

Paint = Callable[..., np.ndarray]
BRIGHTEST = colormap.lookup("inferno", np.array([1.0]))[0]


class Slow(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; "slow.png" takes seconds, because Firefox takes its screenshot when all has been loaded."""

    def do_GET(self) -> None:
        if self.path == "/slow.png":
            time.sleep(4)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def paint(firefox: str, tmp_path: Path) -> Iterator[Paint]:
    """What Firefox paints of a page, [1700, 1200, 3] int."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: Slow(*given, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def painted(html: str, fragment: str, *, js: bool = True) -> np.ndarray:
        shot, profile = tmp_path / "shot.png", tmp_path / "profile"
        profile.mkdir()
        (profile / "user.js").write_text(f'user_pref("javascript.enabled", {str(js).lower()});\n')
        (tmp_path / "page.html").write_text(html, encoding="utf-8")
        frame = f'<iframe src="page.html{fragment.replace("&", "&amp;")}" width="1180" height="1650"></iframe>'
        (tmp_path / "frame.html").write_text(f'<!doctype html>{frame}<img src="slow.png" alt="">', encoding="utf-8")
        subprocess.run(
            [firefox, "--headless", "--no-remote", "--profile", str(profile), "--window-size", "1200,1700",
             "--screenshot", str(shot), f"http://127.0.0.1:{server.server_address[1]}/frame.html"],
            check=True, capture_output=True, timeout=180, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        picture = np.asarray(PillowImage.open(shot).convert("RGB")).astype(int)
        assert picture.shape[:2] == (1700, 1200)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 500
        return picture

    yield painted
    server.shutdown()
    server.server_close()


def count(picture: np.ndarray, colour: np.ndarray, within: int = 3) -> int:
    """How many px have a colour, give or take."""
    return int((np.abs(picture - colour).max(axis=-1) <= within).sum())


@pytest.mark.parametrize("js", [True, False], ids=["js", "no-js"])
def test_a_report_is_painted(paint: Paint, js: bool) -> None:
    picture = paint(render_report(make_record()), "#t=2&m=map&p=inferno", js=js)
    # With the script the link's palette is on the stage: its ground and its brightest patch. Without: cividis heat.
    dark = colormap.lookup("inferno", np.array([0.02]))[0]
    assert (count(picture, dark, 12) > 40_000) == js
    assert (count(picture, BRIGHTEST) > 400) == js


def test_a_comparison_is_painted(paint: Paint) -> None:
    record = make_record()
    picks = [Pick(record, "a.npz", "heads", layer=0), Pick(record, "b.npz", "heads", layer=1)]
    picture = paint(render_compare(picks), "#a=2&b=5&m=map&p=inferno&s=token")
    assert count(picture, BRIGHTEST) > 800, "a brightest patch in both runs"
