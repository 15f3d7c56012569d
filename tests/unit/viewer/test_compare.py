"""Comparisons: only what can be compared, the record's numbers, one text for the same runs, and nothing hostile."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llava_viewer.cli import main
from llava_viewer.look.heatmap import to_grey
from llava_viewer.pages.compare import CompareError, Pick, build_comparison, check_comparable, render_compare
from llava_wire import Record, encode
from support.golden import HOSTILE, hostile_record
from support.pixels import decoded
from support.synthetic import make_record, with_geometry


@pytest.fixture(scope="module")
def runs() -> list[Record]:
    """Two prompts on one picture; the second run has other words and another share on the image."""
    made = [
        make_record(words=("A", " red"), prompt="What is there?"),
        make_record(words=("Two", " blue", " circles"), prompt="How many?", image_share=0.2),
    ]
    return made


def picks(runs: list[Record], **chosen: object) -> list[Pick]:
    return [Pick(run, f"{number}.npz", **chosen) for number, run in enumerate(runs)]  # type: ignore[arg-type]


def test_maps_and_difference_are_the_records(runs: list[Record]) -> None:
    made = build_comparison(picks(runs, view="none", layer=1), title=None, embed_image=True)
    whole = [run.views["none"].maps_float()[:-1, 1].mean((0, 1)) for run in runs]
    for run, record, mean in zip(made.runs, runs, whole, strict=True):
        maps = record.views["none"].maps_float()[:, 1].mean(1)
        assert [choice.number for choice in run.choices] == ["all", *map(str, range(len(maps)))]
        for choice, heat in zip(run.choices, [mean, *maps], strict=True):
            assert np.array_equal(decoded(choice.uri), to_grey(heat)[0])
            assert float(choice.maximum) == pytest.approx(float(heat.max()), rel=1e-3)
    (difference,) = made.differences
    gap = whole[0] - whole[1]
    read = (decoded(difference.uri).astype(float) - 128) / 127 * float(difference.maximum)
    floor = sum(float(run.choices[0].error) for run in made.runs)
    assert floor < np.abs(gap).max() / 10
    sure = np.where(np.abs(gap) > floor, gap, 0)
    assert np.abs(read - sure).max() <= np.abs(gap).max() / 254 * 1.01
    assert difference.differs
    top = max(mean.max() for mean in whole)
    assert [float(run.choices[0].shared) for run in made.runs] == pytest.approx(
        [np.sqrt(m.max() / top) for m in whole], rel=1e-3
    )


def test_what_storing_may_change_is_no_difference() -> None:
    """The same maps stored twice, in 8 bits and in full: all that differs is the rounding."""
    same = [make_record(words=("A", " red"), precision=precision) for precision in ("uint8", "float32")]
    gap = same[0].map(view="layers_heads") - same[1].map(view="layers_heads")
    assert np.abs(gap).max() > 0
    made = build_comparison(picks(same, view="layers_heads"), title=None, embed_image=True)
    (difference,) = made.differences
    assert not difference.differs
    assert (decoded(difference.uri) == 128).all()
    assert float(difference.maximum) >= 2 * np.abs(gap).max()
    assert "No difference: none is over" in render_compare(picks(same, view="layers_heads"))


def test_two_layers_of_one_run_move_together(runs: list[Record]) -> None:
    record = runs[0]
    same = [Pick(record, "a.npz", "heads", layer=0), Pick(record, "a.npz", "heads", layer=1)]
    made = build_comparison(same, title=None, embed_image=True)
    assert made.together
    assert made.title == "What is there?"
    assert [run.heading for run in made.runs] == ["heads, layer 0", "heads, layer 1"]
    assert [fact.label for fact in made.contrasts if fact.differs] == ["Shown"]
    other = build_comparison(picks(runs), title=None, embed_image=True)
    assert not other.together
    assert [run.heading for run in other.runs] == ["What is there?", "How many?"]


def test_what_cannot_be_compared_is_refused_with_both_facts() -> None:
    one = make_record()
    pad = with_geometry(one, replace(one.geometry, steps=one.geometry.steps[:1]))
    for others, message in (
        ([], "got 1\u00a0run, expected 2 to 4"),
        ([make_record(grid=4, patch_px=24)], r"got grids 8 × 8 \(0.npz\) and 4 × 4 \(1.npz\), expected the same"),
        ([one, make_record(seed=1)], r"got images 256 × 192 px \w+ \(0.npz\) and 256 × 192 px \w+ \(2.npz\)"),
        ([pad], r"got ways to cut the image into patches resize .*crop 96 × 96 .* and resize"),
        ([one] * 4, "got 5\u00a0runs"),
    ):
        with pytest.raises(CompareError, match=message):
            check_comparable(picks([one, *others]))


def test_the_same_runs_give_the_same_text_without_a_run_block(runs: list[Record]) -> None:
    assert render_compare(picks(runs)) == render_compare(picks([run.without_run() for run in runs]))


def test_views_without_rows_and_records_without_picture() -> None:
    record = make_record(with_picture=False)
    html = render_compare([Pick(record, "a", "all"), Pick(record, "b", "layers_heads")])
    assert "None of these records carries the image" in html
    assert "left out of this page on request" in render_compare(picks([make_record()] * 2), embed_image=False)


def test_hostile_text_stays_text() -> None:
    record = hostile_record()
    html = render_compare([Pick(record, HOSTILE, HOSTILE), Pick(record, HOSTILE, "all")], title=HOSTILE)
    assert HOSTILE not in html
    assert "<img" not in html
    assert not re.search(r"<[^>]* (on\w+|style)=", html)


def test_the_command(runs: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / "a::b.npz", tmp_path / "c.npz"]
    for path, record in zip(paths, runs, strict=True):
        path.write_bytes(encode(record))
    out = tmp_path / "compare.html"
    given = [str(paths[0]), f"{paths[1]}::view=none,layer=1,head=2", "-o", str(out)]
    assert main(["compare", *given]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert "here layer 1, head 2" in out.read_text("utf-8")
    for folder in ("before", "after"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "run.npz").write_bytes(paths[1].read_bytes())
    assert main(["compare", *(str(tmp_path / one / "run.npz") for one in ("before", "after")), "-o", str(out)]) == 0
    html = out.read_text("utf-8")
    assert "before/run.npz" in html
    assert "after/run.npz" in html
    assert str(tmp_path) not in html
    beams = replace(runs[1], alternatives=(replace(runs[0], run={}, picture=None),))
    paths[1].write_bytes(encode(beams))
    assert main(["compare", str(paths[1]), f"{paths[1]}::sequence=1,view=heads", "-o", str(out)]) == 0
    assert "c.npz, answer 1" in out.read_text("utf-8")
    assert main(["compare", str(paths[1]), f"{paths[1]}::sequence=2", "-o", str(out)]) == 1
    assert "error: sequence: got 2, expected 0 to 1" in capsys.readouterr().err
    assert main(["compare", str(paths[1]), f"{paths[1]}::view=nope", "-o", str(out)]) == 1
    assert "error: view: got 'nope', expected" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["compare", str(paths[1]), f"{paths[1]}::layer=x"])
    assert "expected view=NAME, layer=N, head=N, grid=NAME and sequence=N" in capsys.readouterr().err
