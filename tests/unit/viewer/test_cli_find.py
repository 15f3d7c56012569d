"""llava-viewer find: the table for people, the same numbers as JSON, and what cannot be asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llava_viewer.cli import main
from llava_wire import encode
from support.several import make_signed
from support.synthetic import make_record

RECORD = make_record(words=("A", " red", "\n"), layers=2, heads=3, with_picture=False)
BOX = "40,30,130,101"


@pytest.fixture
def run_file(tmp_path: Path) -> str:
    """`RECORD` as a file."""
    path = tmp_path / "run.npz"
    path.write_bytes(encode(RECORD))
    return str(path)


def test_words_and_heads(run_file, capsys):
    words = RECORD.words_at([float(end) for end in BOX.split(",")])
    assert main(["find", run_file, "--box", BOX, "--top", "2"]) == 0
    head, first, second, rest = capsys.readouterr().out.splitlines()
    assert head.split() == ["token", "word", "inside", "of", "image", "x", "even"]
    names = {0: "A", 1: "red", 2: repr("\n")}
    for line, one in zip((first, second), words[:2], strict=True):
        assert line.split()[:2] == [str(one.token), names[one.token]]
        assert line.endswith(f"{one.times_even:.1f}")
    assert rest == "... 1 more; --top 0 shows all"
    assert main(["find", run_file, "--box", BOX, "--heads", "--json", "--top", "0"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 6
    assert {(one["layer"], one["head"]) for one in found} == {(layer, head) for layer in range(2) for head in range(3)}
    assert main(["find", run_file, "--box", BOX, "--heads"]) == 0
    out = capsys.readouterr().out
    assert out.split()[0] == "head"
    assert out.splitlines()[-1] == "Heads are ranked by inside x of image."


def test_signed_maps_name_what_their_share_is_of(tmp_path, capsys):
    path = tmp_path / "signed.npz"
    path.write_bytes(encode(make_signed()))
    assert main(["find", str(path), "--box", BOX, "--view", "signed"]) == 0
    head = capsys.readouterr().out.splitlines()[0]
    assert head.split("  ")[-2].strip() == "of what is above 0"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--box", "0,0,999,10"], "box: got 0,0,999,10, expected x0,y0,x1,y1"),
        (["--box", BOX, "--heads", "--layer", "1"], "--layer: got 1 with --heads"),
        (["--box", BOX, "--token", "1"], "--token: got 1 without --heads"),
        (["--box", BOX, "--view", "mean"], "view: got 'mean'"),
    ],
)
def test_what_cannot_be_asked(more, says, run_file, capsys):
    assert main(["find", run_file, *more]) == 1
    assert says in capsys.readouterr().err


def test_a_box_of_three_numbers(run_file, capsys):
    with pytest.raises(SystemExit):
        main(["find", run_file, "--box", "1,2,3"])
    assert "--box: got '1,2,3', expected X0,Y0,X1,Y1 in px" in capsys.readouterr().err
