"""Reports of what a family of another package answers about two images, and of a composite, in a real browser."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from llava_viewer.composite import composite_of
from llava_viewer.pages.report import render_report
from llava_wire.geometry import Geometry
from llava_wire.record import Record
from support.several import make_coarse_and_fine
from support.stage import check_map, colour_at, on_screen, settle

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
Show = Callable[..., Any]
BOTH = pytest.mark.parametrize("js", [True, False], ids=["js", "no-js"])


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Path]:
    """What a model of another package's family answers about two pictures (tests/serve has it from a server), and its
    report."""
    from llava_doors.door import FAMILIES
    from llava_server.ask.request import GenerateRequest
    from llava_server.engine import Engine
    from llava_viewer import render, with_picture
    from support import toy_family
    from support.installed import installed
    from support.pictures import scene_bytes

    weights = tmp_path_factory.mktemp("toy") / "weights"
    weights.mkdir()
    toy_family.write(weights, Path(__file__).parents[2] / "model_store" / "llava-shapes")
    pictures = [scene_bytes(300, 140, seed=300), scene_bytes(120, 260, seed=120)]
    with installed(weights.parent / "site", FAMILIES, "support.toy_family:DECLARATION"):
        engine = Engine.load(weights, device="cpu", dtype="float32")
        asked = GenerateRequest.build(pictures, "What differs?", {"max_new_tokens": 4, "precision": "float32"})
        [record] = engine.run([asked])
    assert isinstance(record, Record)
    record = with_picture(record, pictures)
    render(record, weights.parent / "run.html")
    return record, weights.parent / "run.html"


@BOTH
@pytest.mark.parametrize("name", ["image 1, base", "image 1, detail", "image 2, base", "image 2, detail"])
def test_the_report_of_another_packages_family(show: Show, family: tuple[Record, Path], js: bool, name: str) -> None:
    record, path = family
    number = [grid.name for grid in record.grids].index(name)
    page = show(path, js=js)
    page.locator(f"fieldset[data-g=g{number}] label").first.click()
    settle(page, f"mean on {name}")
    page.click("label.tok[for=t2]")
    page.click("label[for=m-map]")
    if js:
        page.wait_for_function("() => document.querySelector('.desk .on[for=t2]')")
        page.wait_for_selector("#stage[aria-busy=false]")
    check_map(page, record.geometry_of(name), record.map(2, grid=name))
    page.click("label[for=m-photo]")
    if js:
        page.wait_for_selector("#stage[aria-busy=false]")
    shot = on_screen(page, record.geometry_of(name))
    with PillowImage.open(io.BytesIO(record.pictures[record.grids[number].image][1])) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(float)
    rows, cols = pixels.shape[:2]
    flat = [
        (row, col)
        for row in range(12, rows - 12, 9)
        for col in range(12, cols - 12, 9)
        if np.ptp(pixels[row - 6 : row + 7, col - 6 : col + 7].reshape(-1, 3), axis=0).max() < 12
    ]
    assert len(flat) > 30
    off = [np.abs(colour_at(shot, col + 0.5, row + 0.5) - pixels[row, col]).max() for row, col in flat]
    assert max(off) < 14


@BOTH
def test_a_composite_lies_on_the_whole_image(show: Show, tmp_path: Path, js: bool) -> None:
    record = make_coarse_and_fine(np.random.default_rng(4).uniform(0, 0.01, 36))
    made, path = composite_of(record), tmp_path / "composite.html"
    path.write_text(render_report(record), encoding="utf-8")
    page = show(path, js=js)
    [name] = record.views
    page.locator("fieldset[data-g=g2] label").first.click()
    settle(page, f"{name} on composite")
    page.click("label[for=m-map]")
    if js:
        page.wait_for_selector("#stage[aria-busy=false]")
    token = int(page.locator("input[name=t]:checked").get_attribute("id")[1:])
    geometry = Geometry.of(record.facts.images[0], made.grid)
    check_map(page, geometry, made.of(record.views[name])[token])
    assert page.locator(".stage:visible .hatched:visible").count() == 0
