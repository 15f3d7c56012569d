"""Figures of a phrase, figures of what the model saw alone, and PDF files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from llava_viewer import export
from llava_viewer.cli.main import main
from llava_viewer.export.drawing import Cells, Hatch, Photo
from llava_wire import Record, encode
from llava_wire.geometry import Geometry, Preprocess
from support.synthetic import make_record, with_geometry


@pytest.fixture(scope="module")
def record() -> Record:
    return make_record(words=("A", " red", " cir", "cle", ",", " not", " blue"), width_px=300, height_px=200)


@pytest.mark.parametrize("how", ["mean", "max"])
@pytest.mark.parametrize("where", [{"view": "none", "layer": 1, "head": 2}, {"view": "none"}, {}])
def test_a_phrase_has_the_numbers_of_the_record(record: Record, how, where) -> None:
    shown = export.show(record, **where)
    item = export.phrase(shown, [1, 2, 3], how)
    expected = record.phrase([1, 2, 3], how=how, **where)
    assert np.array_equal(item.heat, expected)
    assert item.maximum == item.peak == expected.max()
    shares = np.stack([shown.item(token).shares for token in (1, 2, 3)])
    assert np.allclose(item.shares, shares.mean(0), atol=1e-7)
    assert (item.text, item.name) == ("red circle", f"phrase_1_2_3{'_max' if how == 'max' else ''}")
    assert shown.state(item).startswith(f"t=1,2,3{',max' if how == 'max' else ''}&v=")
    assert export.phrase(shown, [1, 6]).text == "red … blue"


def test_a_phrase_is_tokens_in_order_of_a_view_that_has_them(record: Record) -> None:
    shown = export.show(record)
    for tokens in ([1], [2, 1], [1, 1], []):
        with pytest.raises(ValueError, match=r"phrase: got .*, expected two or more tokens in order"):
            export.phrase(shown, tokens)
    with pytest.raises(ValueError, match="token: got 40"):
        export.phrase(shown, [1, 40])
    with pytest.raises(ValueError, match="one map for the whole answer, expected one with a map for each token"):
        export.phrase(export.show(record, view="all"), [1, 2])


def test_files_of_a_phrase(record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run.npz"
    run.write_bytes(encode(record))
    made = ["export", str(run), "-o", str(tmp_path / "out"), "--as", "png,svg,pdf,csv,npz,sheet"]
    assert main([*made, "--phrase", "1-3", "--phrase", "5,6,max"]) == 0
    names = {Path(line).name for line in capsys.readouterr().out.splitlines()}
    figures = {f"figure_phrase_{name}.{kind}" for name in ("1_2_3", "5_6_max") for kind in ("png", "svg", "pdf")}
    assert names == {*figures, "numbers.csv", "numbers.npz", "sheet.png"}
    with np.load(tmp_path / "out" / "numbers.npz") as read:
        assert np.array_equal(read["maps"][1], record.phrase([5, 6], how="max"))
        assert read["text"].tolist() == ["red circle", "not blue"]
        assert json.loads(str(read["about"]))["kinds"] == ["phrase mean 1,2,3", "phrase max 5,6"]
    words = " ".join(ElementTree.parse(tmp_path / "out" / "figure_phrase_1_2_3.svg").getroot().itertext())
    assert "red circle" in words
    assert re.search(r"tokens\s+1\S3,\s+the\s+mean\s+of\s+their\s+maps", words)
    assert "t=1,2,3&v=layers_heads" in words
    # A word beside it is shown as well where it is named.
    assert main([*made[:-1], "png", "--phrase", "1-3", "--tokens", "5"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    for kinds, told in (("gif", "word by word"), ("toolkit", "got it for toolkit")):
        assert main([*made[:-1], kinds, "--phrase", "1-3"]) == 2
        assert told in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*made, "--phrase", "all"])
    assert "got 'all', expected words of the answer, or its tokens" in capsys.readouterr().err


def test_a_phrase_named_by_its_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (" a", " Red", " cup", ",", " a", " red", " cu", "bes", " in", " red", " cups")
    run = tmp_path / "run.npz"
    run.write_bytes(encode(make_record(reductions=("layers_heads",), words=words)))
    made = ["export", str(run), "-o", str(tmp_path / "out"), "--as", "png", "--dpi", "72", "--phrase"]

    def figures(named: str) -> list[str]:
        assert main([*made, named]) == 0
        return [Path(line).name for line in capsys.readouterr().out.splitlines()]

    assert figures("red  CUP") == ["figure_phrase_1_2.png"], "not the longer words"
    assert figures("cubes") == ["figure_phrase_6_7.png"]
    assert figures("red cubes in,max") == ["figure_phrase_5_6_7_8_max.png"]
    assert figures("in") == ["figure_step_8.png"], "one token is that token"
    for named, told in (
        ("red", "got 'red', which the answer has 3 times, at tokens 1, 5, 9, expected one place"),
        ("red", "name its tokens: --tokens 1"),
        ("a red", "2 times, at tokens 0-1, 4-5, expected one place; name its tokens: --phrase 0-1"),
        ("blue", "got 'blue', which is not in the answer, 'a Red cup, a red cubes in red cups', expected words"),
        ("cu", "which is not in the answer"),
    ):  # fmt: skip
        assert main([*made, named]) == 2
        assert told in capsys.readouterr().err, named


def seen(geometry: Geometry) -> float:
    x0, y0, x1, y1 = geometry.seen_rect()
    return (x1 - x0) / (y1 - y0)


def test_a_cropped_figure_shows_what_the_model_saw_and_no_more(record: Record) -> None:
    whole = export.show(record, look=export.Look(caption=False))
    cut = export.show(record, look=export.Look(caption=False, crop=True))
    for shown, hatches, aspect in ((whole, 2, 300 / 200), (cut, 0, seen(record.geometry))):
        drawing = export.figure(shown, shown.item(1))
        assert sum(isinstance(mark, Hatch) for mark in drawing.marks) == hatches
        [photo] = [mark for mark in drawing.marks if isinstance(mark, Photo)]
        assert photo.width / photo.height == pytest.approx(aspect)
        assert photo.pixels.width / photo.pixels.height == pytest.approx(aspect, rel=0.01)
        ends = [mark.x + getattr(mark, "width", 0) for mark in drawing.marks]
        assert min(mark.x for mark in drawing.marks) >= 0
        assert max(ends) <= drawing.width + 1e-6
    # The same place of the image lies under the same patch.
    middle = []
    for crop in (False, True):
        shown = export.show(record, look=export.Look(mode="spotlight", crop=crop))
        picture = record.overlay(1, mode="spotlight", crop=crop)
        x0, y0, x1, y1 = record.geometry.patch_rects()[1, 1]
        left, top = record.geometry.seen_rect()[:2] if crop else (0, 0)
        box = [round(value) for value in (x0 - left + 3, y0 - top + 3, x1 - left - 3, y1 - top - 3)]
        middle.append(np.asarray(picture.crop(box)).reshape(-1, 3).mean(0))
        assert picture.size == ((200, 200) if crop else (300, 200)), shown
    assert np.abs(middle[0] - middle[1]).max() < 3


def test_padding_that_the_model_saw_stays_in_a_cropped_figure() -> None:
    geometry = Preprocess(patch_px=12, pad_to_square=True, exact_size=(96, 96)).plan(300, 200)
    shown = export.show(with_geometry(make_record(), geometry), look=export.Look(crop=True))
    drawing = export.figure(shown, shown.item(1))
    [photo] = [mark for mark in drawing.marks if isinstance(mark, Photo)]
    [cells] = [mark for mark in drawing.marks if isinstance(mark, Cells)]
    assert photo.width / photo.height == pytest.approx(1.5)
    assert cells.width / cells.height == pytest.approx(1.0)
    assert photo.y > cells.y
