"""Figures, sheets, animations and tables hold the record's numbers, stay inert and open in ordinary programs."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image as PillowImage

from llava_viewer import export
from llava_viewer.cli import main
from llava_viewer.export import fonts
from llava_viewer.export.svg import svg_text
from llava_viewer.look import colormap
from llava_wire import Record, encode
from support.golden import HOSTILE, hostile_record
from support.synthetic import make_record

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def record() -> Record:
    return make_record(words=("A", " red", " circle"), layers=2, heads=3, pairs=((1, 2), (0, 1)))


def cells(svg: ElementTree.Element) -> dict[tuple[int, int], tuple[str, float]]:
    """(row, col) -> (colour, opacity) of an SVG's cells."""
    found = {}
    for path in svg.iter(f"{SVG}path"):
        for col, row in re.findall(r"M(\d+) (\d+)h1v1h-1z", path.get("d", "")):
            found[int(row), int(col)] = (path.get("fill", ""), float(path.get("fill-opacity", 1)))
    return found


def test_the_csv_holds_every_number(record: Record, tmp_path: Path) -> None:
    shown = export.show(record, view="none", layer=1, head=2)
    export.write_csv(shown, tmp_path / "n.csv")
    lines = list(csv.DictReader((tmp_path / "n.csv").open(encoding="utf-8", newline="")))
    maps = record.views["none"].maps_float()[:, 1, 2]
    read = np.array([float(line["attention"]) for line in lines], np.float32).reshape(maps.shape)
    assert np.array_equal(read, maps)
    first = lines[64]
    assert (first["kind"], first["token"], first["step"], json.loads(first["text"])) == ("answer", "1", "1", " red")
    rects = record.geometry.patch_rects().reshape(-1, 4)
    assert [float(first[name]) for name in ("x0_px", "y0_px", "x1_px", "y1_px")] == rects[0].tolist()


def test_the_npz_holds_every_number(record: Record, tmp_path: Path) -> None:
    export.write_npz(export.show(record, view="pairs", layer=0), tmp_path / "n.npz")
    with np.load(tmp_path / "n.npz", allow_pickle=False) as read:
        assert np.array_equal(read["maps"], record.views["pairs"].maps_float()[:, 1])
        assert np.array_equal(read["shares"], record.views["pairs"].shares[:, 1])
        assert np.array_equal(read["patch_rects"], record.geometry.patch_rects())
        assert read["text"].tolist() == ["A", " red", " circle", "</s>"]
        assert read["step"].tolist() == [0, 1, 2, 3]
        assert json.loads(str(read["about"]))["layer"] == 0
    again = tmp_path / "again.npz"
    export.write_npz(export.show(record, view="pairs", layer=0), again)
    assert again.read_bytes() == (tmp_path / "n.npz").read_bytes()


@pytest.mark.parametrize("palette", colormap.PALETTES)
def test_svg_cells_have_the_palettes_colours(record: Record, palette: str) -> None:
    shown = export.show(record, look=export.Look(mode="map", palette=palette))
    item = shown.item(1)
    svg = ElementTree.fromstring(svg_text(export.figure(shown, item)))
    levels = np.rint((record.views["layers_heads"].on_grid()[1] / 255) ** 2 * 255) / 255
    expected = colormap.lookup(palette, levels)
    found = cells(svg)
    assert len(found) == 64
    for (row, col), (colour, opacity) in found.items():
        assert colour == "#" + bytes(expected[row, col]).hex()
        assert opacity == 1


def test_the_shared_scale_is_the_largest_value_of_all_tokens(record: Record) -> None:
    shown = export.show(record, look=export.Look(scale="shared", mode="map"))
    top = record.maps_float().max()
    assert {item.maximum for item in shown.items} == {float(top)}
    own = export.show(record)
    assert [item.maximum for item in own.items] == pytest.approx(record.maps_float().max((1, 2)).tolist())


def test_a_figure_is_as_large_on_paper_as_asked_and_its_patches_lie_right(record: Record, tmp_path: Path) -> None:
    look = export.Look(mode="map", width_mm=84, dpi=300, caption=False)
    shown = export.show(record, look=look)
    drawing = export.figure(shown, shown.item(2))
    export.write_png(drawing, tmp_path / "f.png", look.dpi)
    with PillowImage.open(tmp_path / "f.png") as opened:
        assert opened.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert opened.width / 300 * 25.4 == pytest.approx(84 + 2 * 3 / 72 * 25.4, abs=0.1)
        pixels = np.asarray(opened.convert("RGB")).astype(int)
    grid = next(mark for mark in drawing.marks if isinstance(mark, export.drawing.Cells))
    scale = 300 / 72
    expected = colormap.lookup(
        "cividis", np.rint((record.views["layers_heads"].on_grid()[2] / 255) ** 2 * 255) / 255
    ).astype(int)
    for row, col in np.ndindex(8, 8):
        x = (export.drawing.MARGIN + grid.x + (col + 0.5) * grid.width / 8) * scale
        y = (export.drawing.MARGIN + grid.y + (row + 0.5) * grid.height / 8) * scale
        assert np.abs(pixels[int(y), int(x)] - expected[row, col]).max() <= 1, (row, col)


def test_the_sheet_has_every_word_of_the_answer(record: Record) -> None:
    shown = export.show(record, look=export.Look(width_mm=180))
    svg = ElementTree.fromstring(svg_text(export.contact_sheet(shown)))
    words = [text.text for text in svg.iter(f"{SVG}text")]
    for word in ("A", "red", "circle", "What is there?", "A red circle"):
        assert word in words
    assert "</s>" not in words
    assert len(list(svg.iter(f"{SVG}image"))) == 1, "the photograph is in the file once"


@pytest.mark.parametrize(("name", "kind"), [("a.gif", "GIF"), ("a.png", "PNG")])
def test_the_animation_has_one_picture_per_word(record: Record, tmp_path: Path, name: str, kind: str) -> None:
    shown = export.show(record, look=export.Look(width_mm=60, dpi=100))
    export.write_animation(shown, tmp_path / name, frame_ms=500)
    with PillowImage.open(tmp_path / name) as opened:
        assert (opened.format, opened.n_frames) == (kind, 3)
        frames, times = [], []
        for number in range(3):
            opened.seek(number)
            frames.append(opened.convert("RGB").tobytes())
            times.append(opened.info["duration"])
    assert len(set(frames)) == 3
    assert times == [500, 500, 2500]
    export.write_animation(shown, tmp_path / name, (shown.item(1),))
    with PillowImage.open(tmp_path / name) as opened:
        assert getattr(opened, "n_frames", 1) == 1
    with pytest.raises(ValueError, match=r"got 3 frames of .* lower --dpi or --width-mm, or name fewer --tokens"):
        export.write_animation(export.show(record, look=export.Look(width_mm=500)), tmp_path / name)


def test_a_map_that_is_nearly_no_evidence_says_so_even_without_caption() -> None:
    for share, warned in ((0.02, True), (0.4, False)):
        shown = export.show(make_record(image_share=share), look=export.Look(caption=False))
        text = svg_text(export.figure(shown, shown.item(1)))
        assert ("nearly no evidence" in text) is warned
        assert ("Asked:" in text) is False


def test_long_answers_scroll_under_the_picture() -> None:
    words = tuple(f" word{n}" if n % 5 else ".\n" for n in range(1, 80))
    shown = export.show(make_record(words=words), look=export.Look(width_mm=60, dpi=72))
    first, last = shown.ordinary()[0], shown.ordinary()[-1]
    sizes = {picture.size for picture in export.animate.frames(shown, (first, last))}
    assert len(sizes) == 1
    assert sizes.pop()[1] < 450


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    record = hostile_record()
    shown = export.show(record, view=HOSTILE)
    for item in shown.items:
        svg = ElementTree.fromstring(svg_text(export.figure(shown, item)))
        tags = {element.tag.removeprefix(SVG) for element in svg.iter()}
        assert tags <= {"svg", "title", "desc", "defs", "linearGradient", "stop", "pattern", "rect", "image", "use",
                        "g", "path", "text"}  # fmt: skip
        for element in svg.iter():
            assert not [name for name in element.attrib if name.startswith("on") or name == "style"]
            assert element.get("href", "#").startswith(("#", "data:image/"))
    export.write_csv(shown, tmp_path / "n.csv")
    with (tmp_path / "n.csv").open(encoding="utf-8", newline="") as stream:
        texts = {line["text"] for line in csv.DictReader(stream)}
    assert all(text.startswith('"') for text in texts), "no cell is a formula to a spreadsheet"
    assert HOSTILE in {json.loads(text) for text in texts}
    out = tmp_path / "out"
    assert main(["export", str(_saved(record, tmp_path)), "-o", str(out), "--as", "png,sheet,gif", "--dpi", "72"]) == 0
    assert {path.parent for path in out.rglob("*")} == {out}


@pytest.mark.parametrize("breaks", ["\n", "\r\n\n", "\x85", "\u2029"], ids=ascii)
def test_an_answer_of_several_paragraphs_is_drawn(tmp_path: Path, breaks: str) -> None:
    record = make_record(words=("A", f" red{breaks}dot", "."), reductions=("layers_heads", "all"))
    shown = export.show(record, look=export.Look(width_mm=60, dpi=72))
    assert len(export.export_overlays(record, tmp_path)) == 4
    assert len(export.export_overlays(record, tmp_path, view="all")) == 1
    for number in range(4):
        _png(export.figure(shown, shown.item(number)))
    _png(export.contact_sheet(shown))
    export.write_animation(shown, tmp_path / "answer.gif")


def test_letters_that_no_font_draws_are_named() -> None:
    assert fonts.undrawable(["red é ω"]) == ""
    _, drawn = fonts.font_for("a\U000f0000", 20, 400, ())
    assert drawn == "a<U+F0000>"
    lines = fonts.wrap("one two three four five six seven", 10, 60, 2)
    assert len(lines) == 2
    assert lines[1].endswith("…")
    assert max(fonts.width(line, 10) for line in lines) <= 60


def test_the_command_writes_what_was_asked_for(
    record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = _saved(record, tmp_path), tmp_path / "out"
    asked = ["--as", "png,svg,sheet,sheet-svg,gif,apng,csv,npz", "--view", "none", "--layer", "1", "--tokens", "1"]
    assert main(["export", str(run), "-o", str(out), "--dpi", "96", *asked]) == 0
    printed = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert printed == [
        "figure_step_1_layer_1.png", "figure_step_1_layer_1.svg", "sheet.png", "sheet.svg", "answer.gif", "answer.png",
        "numbers.csv", "numbers.npz",
    ]  # fmt: skip
    assert sorted(printed) == sorted(path.name for path in out.iterdir())
    with np.load(out / "numbers.npz") as read:
        assert np.allclose(read["maps"][0], record.views["none"].maps_float()[1, 1].mean(0))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--layer", "0"], "error: layer: got 0, expected none in view 'layers_heads'; ask for a view"),
        (["--view", "none", "--tokens", "9"], "error: token: got 9, expected 0, 1, 2, 3"),
        (["--font", "none.ttf"], "error: font: got 'none.ttf' (cannot open resource), expected a TrueType"),
        (["--dpi", "5"], "error: dpi: got 5, expected 36 to 1200"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[str], message: str
) -> None:
    code = main(["export", str(_saved(record, tmp_path)), "-o", str(tmp_path / "out"), "--as", "png", *asked])
    assert code == 1
    assert message in capsys.readouterr().err


def test_a_tall_picture_and_one_that_is_missing(tmp_path: Path) -> None:
    for record in (make_record(width_px=80, height_px=300), make_record(with_picture=False)):
        shown = export.show(record)
        drawing = export.figure(shown, shown.item())
        assert drawing.height < 2.2 * drawing.width
        with PillowImage.open(io.BytesIO(_png(drawing))) as opened:
            assert min(opened.size) > 200


def _png(drawing: export.drawing.Drawing) -> bytes:
    buffer = io.BytesIO()
    export.paint(drawing, 100).save(buffer, "PNG")
    return buffer.getvalue()


def _saved(record: Record, folder: Path) -> Path:
    path = folder / "run.npz"
    path.write_bytes(encode(record))
    return path
