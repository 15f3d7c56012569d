"""The grid of words by heads holds every map of the view at its row and column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llava_viewer import export
from llava_viewer.cli.main import main
from llava_viewer.export.drawing import Cells, Drawing, Photo, Text
from llava_viewer.look import colormap, wording
from llava_wire import Record, encode
from support.synthetic import make_record


@pytest.fixture(scope="module")
def record() -> Record:
    return make_record(words=("A", " red", " circle"), layers=2, heads=3, pairs=((1, 2), (0, 1)), precision="float32")


def grid(drawing: Drawing) -> list[list[Cells]]:
    """The maps of a drawing, by row from the top and by column from the left."""
    cells = [mark for mark in drawing.marks if isinstance(mark, Cells)]
    tops = sorted({round(one.y, 3) for one in cells})
    return [sorted((one for one in cells if round(one.y, 3) == top), key=lambda one: one.x) for top in tops]


def palette_of(heat: np.ndarray, most: float) -> np.ndarray:
    return colormap.lookup("cividis", np.rint(np.sqrt(np.clip(heat / most, 0, 1)) ** 2 * 255) / 255)


@pytest.mark.parametrize(
    ("where", "columns"),
    [
        ({"view": "none"}, [f"L{layer} H{head}" for layer in (0, 1) for head in (0, 1, 2)]),
        ({"view": "none", "layer": 1}, ["L1 H0", "L1 H1", "L1 H2"]),
        ({"view": "none", "head": 2}, ["L0 H2", "L1 H2"]),
        ({"view": "pairs"}, ["L1 H2", "L0 H1"]),
        ({"view": "heads"}, ["L0", "L1"]),
    ],
)
def test_every_map_stands_at_its_word_and_head(record: Record, where, columns) -> None:
    drawing = export.word_heads(record, **where, look=export.Look(width_mm=180, mode="map"))
    texts = [mark.text for mark in drawing.marks if isinstance(mark, Text)]
    assert [text for text in texts if text in columns] == columns
    for word in ("A", "red", "circle"):
        assert word in texts
    maps = record.views[where["view"]].maps_float()
    own = maps.reshape(maps.shape[0], -1, *maps.shape[-2:])
    if where.get("layer") is not None:
        own = maps[:, where["layer"]]
    if where.get("head") is not None:
        own = maps[:, :, where["head"]]
    found = grid(drawing)
    assert [len(row) for row in found] == [len(columns)] * 3, "the end of the answer is no word"
    for token, row in enumerate(found):
        for column, cells in enumerate(row):
            heat = own[token, column]
            assert np.unravel_index(cells.rgba[..., :3].astype(int).sum(-1).argmax(), heat.shape) == np.unravel_index(
                heat.argmax(), heat.shape
            )
            assert np.abs(cells.rgba[..., :3].astype(int) - palette_of(heat, heat.max())).max() <= 4
    assert texts.count(wording.percent(0.4)) == 3 * len(columns)


def test_one_scale_tells_maps_apart_that_look_alike_on_their_own(record: Record) -> None:
    view = record.views["none"]
    shared = grid(export.word_heads(record, view="none", look=export.Look(width_mm=180, mode="map", scale="shared")))
    most = view.maps_float()[:3].max()
    brightest = [[int(one.rgba[..., :3].astype(int).sum(-1).max()) for one in row] for row in shared]
    whole = int(colormap.lookup("cividis", np.ones(1))[0].astype(int).sum())
    assert max(map(max, brightest)) <= whole
    least = view.maps_float()[:3].max((-2, -1)).reshape(3, -1)
    assert np.unravel_index(least.argmin(), least.shape) == np.unravel_index(np.argmin(brightest), least.shape)
    assert most > 0


def test_what_does_not_fit_is_refused_with_the_way_out(record: Record) -> None:
    with pytest.raises(ValueError, match="one map a word, expected one that keeps layers or heads apart"):
        export.word_heads(record, view="layers_heads")
    many = make_record(layers=8, heads=8, reductions=("none",), words=("A", " b"))
    with pytest.raises(ValueError, match=r"got 64 columns, expected at most \d+ in 180 mm; name one --layer or --head"):
        export.word_heads(many, view="none")
    long = make_record(layers=4, heads=5, reductions=("none",), words=tuple(f" w{i}" for i in range(12)))
    with pytest.raises(ValueError, match="got 240 maps, expected 200; name fewer with --tokens, or add --many"):
        export.word_heads(long, view="none", many=False)
    with pytest.raises(ValueError, match="layer: got 9"):
        export.word_heads(many, view="none", layer=9)


def test_the_command_draws_words_and_phrases(
    record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run.npz"
    run.write_bytes(encode(record))
    made = ["export", str(run), "-o", str(tmp_path / "out"), "--as", "heads,heads-svg", "--view", "none", "--dpi", "72"]
    assert main([*made, "--tokens", "0", "--phrase", "1,2", "--crop"]) == 0
    names = {Path(line).name for line in capsys.readouterr().out.splitlines()}
    assert names == {"heads.png", "heads.svg"}
    assert "red circle" in (tmp_path / "out" / "heads.svg").read_text("utf-8")
    drawing = export.word_heads(record, view="none")
    assert len({id(mark.pixels) for mark in drawing.marks if isinstance(mark, Photo)}) == 1, "one image for all cells"
