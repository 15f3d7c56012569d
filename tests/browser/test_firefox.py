"""A report and Firefox: the page is painted, with the chosen word's map on the stage."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from llava_viewer import colormap
from llava_viewer.render import render_report
from support.synthetic import make_record


def test_a_report_is_painted(firefox: str, tmp_path: Path) -> None:
    page, shot = tmp_path / "run.html", tmp_path / "shot.png"
    page.write_text(render_report(make_record()), encoding="utf-8")
    command = [
        firefox,
        "--headless",
        "--no-remote",
        "--profile",
        str(tmp_path / "profile"),
        "--window-size",
        "1200,1700",
    ]
    (tmp_path / "profile").mkdir()
    subprocess.run(
        [*command, "--window-size", "1200,1700", "--screenshot", str(shot), f"{page.as_uri()}#t=2&m=map&p=inferno"],
        check=True, capture_output=True, timeout=180, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    picture = np.asarray(PillowImage.open(shot).convert("RGB")).astype(int)
    assert picture.shape[:2] == (1700, 1200)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 500
    # The chosen word's brightest patch has the palette's last colour, and it is a block on the stage.
    brightest = colormap.lookup("inferno", np.array([1.0]))[0]
    alike = np.abs(picture - brightest).max(axis=-1) <= 3
    assert alike.sum() > 400
