"""Pages and Firefox: they are painted, with the chosen word's map on the stage."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from llava_viewer import colormap
from llava_viewer.compare import Pick, render_compare
from llava_viewer.render import render_report
from support.synthetic import make_record


def screenshot(firefox: str, page: Path, fragment: str) -> np.ndarray:
    """What Firefox paints of a page, [1700, 1200, 3] int."""
    folder, shot = page.parent, page.with_suffix(".png")
    (folder / "profile").mkdir()
    subprocess.run(
        [firefox, "--headless", "--no-remote", "--profile", str(folder / "profile"), "--window-size", "1200,1700",
         "--screenshot", str(shot), f"{page.as_uri()}{fragment}"],
        check=True, capture_output=True, timeout=180, env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    picture = np.asarray(PillowImage.open(shot).convert("RGB")).astype(int)
    assert picture.shape[:2] == (1700, 1200)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 500
    return picture


def count(picture: np.ndarray, colour: np.ndarray) -> int:
    """How many px have a colour, give or take 3."""
    return int((np.abs(picture - colour).max(axis=-1) <= 3).sum())


def test_a_report_is_painted(firefox: str, tmp_path: Path) -> None:
    page = tmp_path / "run.html"
    page.write_text(render_report(make_record()), encoding="utf-8")
    picture = screenshot(firefox, page, "#t=2&m=map&p=inferno")
    # The chosen word's brightest patch has the palette's last colour, and it is a block on the stage.
    assert count(picture, colormap.lookup("inferno", np.array([1.0]))[0]) > 400


def test_a_comparison_is_painted(firefox: str, tmp_path: Path) -> None:
    page = tmp_path / "compare.html"
    record = make_record()
    picks = [Pick(record, "a.npz", "heads", layer=0), Pick(record, "b.npz", "heads", layer=1)]
    page.write_text(render_compare(picks), encoding="utf-8")
    picture = screenshot(firefox, page, "#a=2&b=5&m=map&p=inferno&s=token")
    assert count(picture, colormap.lookup("inferno", np.array([1.0]))[0]) > 800, "a brightest patch in both runs"
