"""One map of an image of several grids: every place shows its finest grid's density, cell by cell and by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llava_viewer.cli import main
from llava_viewer.composite import composite_of, composites, widened
from llava_viewer.one_grid import on_one_grid
from llava_viewer.pages.assemble import build_report
from llava_viewer.pages.report import render_report
from llava_wire import encode
from llava_wire.geometry import Geometry, Preprocess
from llava_wire.quantity import Quantity
from support.several import make_coarse_and_fine, make_several
from support.synthetic import make_record


def test_every_cell_shows_the_finest_patch_at_its_place() -> None:
    rng = np.random.default_rng(3)
    values = rng.uniform(0, 0.01, 36)
    record = make_coarse_and_fine(values)
    made = composite_of(record)
    # The fine lattice from (25, 12) in steps of 10 reaches the edges with 3 more columns left, 4 right, 2 rows, 2 rows.
    assert (made.grid.rows, made.grid.cols) == (2 + 5 + 2, 3 + 6 + 4)
    rects = Geometry.of(record.facts.images[0], made.grid).patch_rects()
    np.testing.assert_allclose(rects[0, 0], [-5, -8, 5, 2])
    np.testing.assert_allclose(rects[2, 3], [25, 12, 35, 22])
    found = made.of(next(iter(record.views.values())))[0]
    for row in range(9):
        for col in range(13):
            x0, y0, x1, y1 = rects[row, col]
            if 2 <= row < 7 and 3 <= col < 9:
                wanted = values[6 + (row - 2) * 6 + col - 3]
            else:
                x, y = (max(x0, 0) + min(x1, 120)) / 2, (max(y0, 0) + min(y1, 80)) / 2
                wanted = values[int(y // 40) * 3 + int(x // 40)] * 100 / 1600
            assert found[row, col] == pytest.approx(wanted, rel=1e-5), (row, col)


def test_an_even_attention_over_an_area_is_an_even_map() -> None:
    """Densities compare: attention that is even by area is one colour, whichever grid is shown where."""
    values = np.concatenate([np.full(6, 1600e-5), np.full(30, 100e-5)])
    record = make_coarse_and_fine(values)
    found = composite_of(record).of(next(iter(record.views.values())))
    np.testing.assert_allclose(found, 1e-3, rtol=1e-5)
    one = on_one_grid(record, "composite")
    shares = next(iter(one.views.values())).shares
    assert shares is not None
    # The fine grid's 50 x 60 px and the rest of the image, not what the outermost cells have beyond it.
    np.testing.assert_allclose(shares[:, 1], 120 * 80 * 1e-5, rtol=1e-5)


def test_what_does_not_add_up_is_not_divided() -> None:
    record = make_coarse_and_fine(np.random.default_rng(2).uniform(0, 0.01, 36))
    made, view = composite_of(record), next(iter(record.views.values()))
    other = replace(view, facts=replace(view.facts, quantity=Quantity("surprise", "nats")), shares=None)
    flat = view.patches_float()[..., made.patch]
    np.testing.assert_array_equal(made.of(other), flat)
    np.testing.assert_allclose(made.of(view), flat * made.part, rtol=1e-6)
    assert set(np.unique(made.part)) == {1.0, 100 / 1600}, "both grids are in it"


def test_a_report_shows_it_behind_the_grids() -> None:
    record = make_coarse_and_fine(np.random.default_rng(4).uniform(0, 0.01, 36))
    report, maps = build_report(record), composite_of(record).of(next(iter(record.views.values())))
    assert [(stage.name, stage.composite) for stage in report.stages] == [
        ("base", False), ("detail", False), ("composite", True),
    ]  # fmt: skip
    panel, stage = report.views[2], report.stages[2]
    assert (panel.stage, stage.rows, stage.cols, stage.unseen) == (stage, 9, 13, ())
    frame = panel.slots[0].frames[0]
    assert float(frame.numbers.split()[0]) == pytest.approx(float(maps[0].max()), rel=1e-6)
    assert not any("padding" in warning for warning in frame.warnings)
    assert [one.where for one in frame.onto] == ["base", "detail"]
    page = render_report(record)
    assert "The model read 2 grids of patches" in page
    assert "A composite shows at every place" in page


def test_names_and_places() -> None:
    record = make_several()
    assert composites(record) == {"image 1, composite": 0}
    assert not composites(make_record())
    assert composites(make_coarse_and_fine(np.zeros(36))) == {"composite": 0}
    with pytest.raises(ValueError, match="image: got 1 with 1 grids"):
        composite_of(record, 1)
    one = on_one_grid(record, "image 1, composite")
    assert one.facts.images == record.facts.images[:1]
    assert one.views["attention"].facts.error_bound == record.views["attention"].facts.error_bound
    with pytest.raises(ValueError, match="grid: got 'image 2, composite'"):
        on_one_grid(record, "image 2, composite")


def test_a_grid_that_covers_its_image_is_its_own_lattice() -> None:
    for size in ((640, 480), (333, 257), (100, 300)):
        squeezed = Preprocess(14, exact_size=(336, 336)).plan(*size)
        assert widened(squeezed) is squeezed
        cut = Preprocess(14, shortest_edge=336, crop=(336, 336)).plan(*size)
        wide = widened(cut)
        inner = wide.patch_rects()
        x0, y0 = inner[0, 0, :2]
        assert max(x0, y0) <= 1e-6
        assert (inner[-1, -1, 2:] >= np.subtract(size, 1e-6)).all()
        left = round((cut.patch_rects()[0, 0, 0] - x0) / (inner[0, 0, 2] - x0))
        top = round((cut.patch_rects()[0, 0, 1] - y0) / (inner[0, 0, 3] - y0))
        np.testing.assert_allclose(inner[top : top + 24, left : left + 24], cut.patch_rects(), atol=1e-6)


def test_figures_and_the_command_take_it(tmp_path: Path) -> None:
    record = make_coarse_and_fine(np.random.default_rng(1).uniform(0, 0.01, 36))
    maps = composite_of(record).of(next(iter(record.views.values())))
    run, out = tmp_path / "run.npz", tmp_path / "out"
    run.write_bytes(encode(record))
    assert main(["export", str(run), "-o", str(out), "--as", "npz,png", "--grid", "composite", "--tokens", "1"]) == 0
    with np.load(out / "numbers.npz") as numbers:
        assert json.loads(str(numbers["about"]))["grid"] == "composite"
        np.testing.assert_allclose(numbers["maps"], maps[1:2], rtol=1e-6)
    assert main(["compare", f"{run}::grid=composite", f"{run}::grid=composite", "-o", str(tmp_path / "c.html")]) == 0
