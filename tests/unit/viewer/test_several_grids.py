"""Records of several pictures and grids in reports, figures, tables, comparisons, the index and the command."""

from __future__ import annotations

import base64
import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llava_viewer import records
from llava_viewer.cli import main
from llava_viewer.export import Look, show, write_csv
from llava_viewer.export.figure import caption, figure
from llava_viewer.files import COLUMNS
from llava_viewer.look.frames import GRID_PARTS
from llava_viewer.look.wording import percent, times
from llava_viewer.notebook import html, overlay
from llava_viewer.one_grid import OneGrid, on_one_grid, unfolded
from llava_viewer.pages.assemble import build_report
from llava_viewer.pages.compare import CompareError, Pick, render_compare
from llava_viewer.pages.index import write_index
from llava_viewer.pages.onto import parts_of, told
from llava_viewer.pages.report import ReportTooLargeError, render_report
from llava_wire import Record, decode, encode
from support.several import make_several
from support.synthetic import make_record

NAMES = ["base", "tile 0,1", "detail"]
COLOURS = ((200, 40, 40), (40, 40, 200))


def picture(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()


def with_pictures() -> Record:
    record = make_several()
    files = [picture(one.width_px, one.height_px, c) for one, c in zip(record.facts.images, COLOURS, strict=True)]
    return record.with_pictures([("picture.png", data) for data in files])


@pytest.fixture(scope="module")
def record() -> Record:
    return with_pictures()


def only_shares(record: Record) -> Record:
    return replace(record, views={"attention": record.views["attention"]})


def test_a_part_has_its_picture_its_place_and_its_part_of_every_map(record: Record) -> None:
    for number, name in enumerate(NAMES):
        one = on_one_grid(record, name)
        assert isinstance(one, OneGrid)
        assert one.geometry == record.geometry_of(number)
        assert one.picture == ("picture.png", record.pictures[record.grids[number].image][1])
        for view in record.views:
            np.testing.assert_array_equal(one.views[view].maps_float(), record.views[view].maps_float(number))
        assert on_one_grid(record, number).geometry == on_one_grid(record, str(number)).geometry == one.geometry
    parts = [on_one_grid(record, name).views["attention"] for name in NAMES]
    whole = record.views["attention"].shares
    assert whole is not None
    for one in parts:
        assert one.shares is not None
        np.testing.assert_allclose(one.shares[..., 1], one.maps_float().sum((-1, -2)), rtol=1e-6)
        np.testing.assert_array_equal(one.shares[..., [0, 2, 3]], whole[..., [0, 2, 3]])
    # What the parts' images have together is the record's, to within the error of a map's sum.
    total = sum(one.shares[..., 1] for one in parts if one.shares is not None)
    np.testing.assert_allclose(total, whole[..., 1], atol=3e-3)


def test_one_grid_is_its_own_part_and_several_must_be_named(record: Record) -> None:
    one = make_record()
    assert on_one_grid(one) is one
    assert unfolded(one) is one
    for grid in (None, "tile", 3, "3", -1):
        with pytest.raises(ValueError, match=r"grid: got .*expected one of \['base', 'tile 0,1', 'detail'\]"):
            on_one_grid(record, grid)
    with pytest.raises(ValueError, match="grid: got none"):
        show(record)


def grey(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))))


def test_a_report_has_every_view_on_every_grid(record: Record) -> None:
    report = build_report(record)
    shown = [*NAMES, "image 1, composite"]
    assert [panel.name for panel in report.views] == [f"{view} on {grid}" for grid in shown for view in record.views]
    assert [panel.label for panel in report.views] == [*record.views] * 4
    assert [stage.name for stage in report.stages] == shown
    assert [stage.composite for stage in report.stages] == [False] * 3 + [True]
    assert report.grids == 3
    assert [len(panel.stage.key) for panel in report.views] == [2] * 20
    assert report.share_parts == GRID_PARTS
    for panel in report.views[:15]:
        number = NAMES.index(panel.stage.name)
        geometry = record.geometry_of(number)
        rects = geometry.patch_rects()
        x0, y0, x1, y1 = map(float, panel.stage.grid_numbers.split())
        np.testing.assert_allclose([x0, y0], rects[0, 0, :2], atol=1e-5)
        np.testing.assert_allclose([x1, y1], rects[-1, -1, 2:], atol=1e-5)
        assert (panel.stage.width_px, panel.stage.height_px) == (geometry.width_px, geometry.height_px)
        for frame in panel.slots[0].frames:
            assert grey(frame.uri).shape == (geometry.rows, geometry.cols)
    panel = next(one for one in report.views if one.name == "attention on detail")
    maps = record.views["attention"].maps_float("detail").mean((1, 2))
    for row, frame in enumerate(panel.slots[0].frames):
        most = float(frame.numbers.split()[0])
        read = most * (grey(frame.uri) / 255.0) ** 2
        np.testing.assert_allclose(read, maps[row], atol=float(panel.error))
        at = np.unravel_index(maps[row].argmax(), maps[row].shape)
        x, y = record.geometry_of("detail").patch_rects()[at][:2]
        assert (float(frame.peak_x), float(frame.peak_y)) == pytest.approx((x, y), abs=0.01)
        assert [one.name for one in frame.segments] == ["b", "i", "p", "a", "o"]
        assert float(frame.segments[-1].until) == 100


def test_sums_are_what_lies_on_each_grid_and_image(record: Record) -> None:
    view = record.views["attention"]
    sums = view.sums_by_grid()
    for number in range(3):
        np.testing.assert_allclose(sums[..., number], view.maps_float(number).sum((-1, -2)), rtol=1e-6)
    np.testing.assert_allclose(view.sums_by_image(), np.stack([sums[..., :2].sum(-1), sums[..., 2]], -1), rtol=1e-12)
    assert view.sums_by_image().shape == (*view.lead, 2)


def test_every_frame_tells_how_its_row_splits_over_images_and_grids(record: Record) -> None:
    report, sums = build_report(record), record.views["attention"].sums_by_grid()  # [row, layer, head, grid]
    patches = np.array([grid.patches for grid in record.grids])
    for panel in report.views:
        if panel.label != "attention":
            assert not panel.slots[0].frames[0].onto
            continue
        for slot, chosen in ((0, sums.mean((1, 2))), (1 + 4, sums[:, 1, 1])):  # the mean of 2 x 3 maps, then each
            for row, frame in enumerate(panel.slots[slot].frames):
                own = chosen[row]
                lines = [("image 1", own[:2].sum(), patches[:2].sum())]
                lines += [(name, own[i], patches[i]) for i, name in enumerate(NAMES[:2])]
                lines += [("image 2", own[2], patches[2])]
                assert [(one.where, one.share, one.times) for one in frame.onto] == [
                    (name, percent(share), times(share / own.sum() * patches.sum() / count))
                    for name, share, count in lines
                ]
    assert json.loads(told(record.grids)) == [
        ["image 1", [0, 1], int(patches[:2].sum())], ["base", [0], int(patches[0])],
        ["tile 0,1", [1], int(patches[1])], ["image 2", [2], int(patches[2])],
    ]  # fmt: skip
    assert parts_of(record.grids[:2]) == (("base", (0,)), ("tile 0,1", (1,)))
    assert "On which grid" not in render_report(make_record())


def test_its_page_holds_each_picture_once_and_names_what_is_there(record: Record) -> None:
    page = render_report(record)
    for _, data in record.pictures:
        assert page.count(base64.b64encode(data).decode()[:200]) <= 1
    assert page.count('<image id="photo') == 2
    for name in NAMES:
        assert f"<legend>{name}<span>, " in page
    assert "256 × 192 px; 100 × 300 px" in page
    assert "Grid “tile 0,1”" in page
    assert "this grid" in page
    assert "Mean attention on the image" not in page
    for text in ("this grid", 'id="g0"', "startOn", "data-g="):
        assert text not in render_report(make_record())


def test_pictures_given_are_one_for_each(record: Record) -> None:
    bare = make_several()
    files = [data for _, data in record.pictures]
    assert build_report(bare, picture=files).stages[2].photo_uri
    assert build_report(bare).stages[2].photo_uri == ""
    with pytest.raises(ValueError, match="picture: got 1, expected the 2"):
        build_report(bare, picture=files[0])


def test_very_many_views_and_grids_are_refused_before_a_page_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    from llava_viewer.pages import report

    monkeypatch.setattr(report, "MAX_BYTES", 100_000)
    monkeypatch.setattr(report, "build_report", lambda *_, **__: pytest.fail("made"))
    with pytest.raises(ReportTooLargeError):
        render_report(make_several())


def test_figures_and_tables_show_one_grid(record: Record, tmp_path: Path) -> None:
    shown = show(record, view="attention", grid="detail", look=Look(fonts=()))
    item = shown.item(1)
    expected = record.map(1, view="attention", grid="detail")
    np.testing.assert_allclose(item.heat, expected, rtol=1e-6)
    assert item.image_share == pytest.approx(float(expected.sum()), rel=1e-5)
    assert "grid “detail”" in "".join(caption(shown, item, 2000))
    assert "on this grid" in figure(shown, item).title
    assert np.asarray(shown.backdrop(50))[0, 0].argmax() == 2, "the second picture is blue"
    write_csv(shown, tmp_path / "numbers.csv", (item,))
    rows = list(csv.DictReader((tmp_path / "numbers.csv").open()))
    assert list(rows[0]) == list(COLUMNS)
    rects = record.geometry_of("detail").patch_rects().reshape(-1, 4)
    assert len(rows) == 9
    for row, rect, value in zip(rows, rects, expected.ravel(), strict=True):
        assert [float(row[name]) for name in COLUMNS[-4:]] == pytest.approx(rect.tolist(), rel=1e-5, abs=1e-5)
        assert float(row["attention"]) == pytest.approx(value, rel=1e-6)
    assert overlay(record, 1, view="attention", grid="detail").size == (100, 300)
    assert html(record).startswith("<iframe")


def test_comparisons_are_of_one_grid(record: Record) -> None:
    one, other = only_shares(record), only_shares(make_several(seed=1))
    page = render_compare([Pick(one, "a", grid="detail"), Pick(other, "b", grid="2")])
    assert "of the attention is on this grid" in page
    assert "of the attention is on the image" not in page
    with pytest.raises(ValueError, match="grid: got none"):
        render_compare([Pick(one, "a"), Pick(other, "b")])
    with pytest.raises(CompareError, match=r"got grids 4 × 6 \(a\) and 3 × 3 \(b\)"):
        render_compare([Pick(one, "a", grid="base"), Pick(other, "b", grid="detail")])
    with pytest.raises(CompareError, match="got images 256 × 192"):
        render_compare([Pick(one, "a", grid="tile 0,1"), Pick(other, "b", grid="detail")])


def test_the_index_shows_the_grid_with_most_and_says_which(record: Record, tmp_path: Path) -> None:
    (tmp_path / "several.npz").write_bytes(encode(record))
    page = write_index(tmp_path).read_text("utf-8")
    sums = [float(record.views["attention"].maps_float(name).sum()) for name in NAMES]
    assert f", on {NAMES[int(np.argmax(sums))]}" in page


def test_the_command(record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, bare, files = tmp_path / "run.npz", tmp_path / "bare.npz", []
    run.write_bytes(encode(only_shares(record)))
    bare.write_bytes(encode(make_several()))
    for number, (_, data) in enumerate(record.pictures):
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(data)
    assert main(["render", str(run)]) == 0
    assert "attention on detail" in (tmp_path / "run.html").read_text("utf-8")
    assert main(["inspect", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert [one["name"] for one in found["pictures"]] == ["picture.png", "pictures/1.png"]
    [view] = found["views"]
    assert sum(view["grid_shares"]) == pytest.approx(view["image_share"], abs=3e-3)
    assert main(["export", str(run), "-o", str(tmp_path / "out"), "--as", "npz", "--grid", "tile 0,1"]) == 0
    with np.load(tmp_path / "out" / "numbers.npz") as numbers:
        np.testing.assert_array_equal(numbers["patch_rects"], record.geometry_of("tile 0,1").patch_rects())
        assert json.loads(str(numbers["about"]))["grid"] == "tile 0,1"
    assert main(["export", str(run), "-o", str(tmp_path / "all"), "--grid", "2"]) == 0
    assert "grid: detail" in (tmp_path / "all" / "log.txt").read_text("utf-8")
    out = str(tmp_path / "compare.html")
    assert main(["compare", f"{run}::grid=tile 0,1", f"{run}::view=attention,layer=1,grid=1", "-o", out]) == 0
    capsys.readouterr()
    assert main(["export", str(run), "-o", str(tmp_path / "none")]) == 1
    assert "grid: got none, expected one of ['base', 'tile 0,1', 'detail']" in capsys.readouterr().err
    images = [part for path in files for part in ("--image", str(path))]
    assert main(["render", str(bare), *images, "-o", str(tmp_path / "given.html")]) == 0
    assert capsys.readouterr().err.count("this is another image") == 2, "the digests are made up"
    assert (tmp_path / "given.html").read_text("utf-8").count('<image id="photo') == 2
    assert main(["render", str(bare), *images[:2], "-o", str(tmp_path / "one.html")]) == 2
    assert "--image: got 1 files, expected 2" in capsys.readouterr().err


def test_scripts_keep_all_pictures(tmp_path: Path) -> None:
    from hashlib import sha256

    files = [picture(256, 192, COLOURS[0]), picture(100, 300, COLOURS[1])]
    record = make_several()
    images = [
        replace(one, sha256=sha256(data).hexdigest()) for one, data in zip(record.facts.images, files, strict=True)
    ]
    record = replace(record, facts=replace(record.facts, images=tuple(images)))
    path = records.save(record, tmp_path / "run.npz", picture=files)
    assert len(decode(path.read_bytes()).pictures) == 2
    with pytest.raises(ValueError, match="this is another image"):
        records.with_picture(record, files[::-1])
    with pytest.raises(ValueError, match="pictures: got 1, expected the 2"):
        records.with_picture(record, files[0])
    assert "attention on detail" in records.render(record, picture=files)
