"""The state that a report is rendered in: what it marks, and every wrong part refused by its name."""

from __future__ import annotations

import re

import pytest

from llava_viewer.cli.main import main
from llava_viewer.pages.assemble import build_report
from llava_viewer.pages.opening import OpeningError, opening_of, usual
from llava_viewer.pages.report import render_report
from llava_wire import encode
from llava_wire.record import Record
from support.synthetic import make_record

WRONG = {
    "t=99": r"t: got '99', expected tokens of 0 to 11, each once",
    "t=4,4": r"t: got '4', expected tokens of 0 to 11, each once",
    "t=4,q1": r"t: got 'q1'",
    "t=": r"t: got '', expected",
    "v=nowhere": r"v: got 'nowhere', expected one of layers_heads, none, ",
    "view=nowhere": r"v: got 'nowhere', expected one of",
    "v=none&l=7": r"l: got '7', expected 0, 1 in view 'none'",
    "h=1": r"h: got '1', expected none in view 'layers_heads'",
    "v=pairs&l=1&h=1": r"l/h: got '1.1', expected a pair of view 'pairs': 0.1, 1.2",
    "v=pairs&l=1": r"l/h: got '1.'",
    "m=jet": r"m: got 'jet', expected one of heat, spotlight, map, photo",
    "p=jet": r"p: got 'jet', expected one of cividis",
    "s=all": r"s: got 'all', expected one of token, shared",
    "b=need": r"b: got 'need', expected one of share, prob",
    "o=101": r"o: got '101', expected a whole number from 0 to 100",
    "box=1,2,3": r"box: got '1,2,3', expected X0,Y0,X1,Y1 in px of the image \(256 × 192 px\)",
    "box=10,10,5,20": r"box: got",
    "box=0,0,20,20": r"box: got '0,0,20,20', .* on what the model saw of it",
    "box=nan,0,20,20": r"box: got",
    "pa=4": r"pa: got '4', expected TOKEN~VIEW~LAYER~HEAD",
    "pa=mean": r"pa: got 'mean'",
    "pb=4~none~9~": r"pb: got '9', expected 0, 1 in view 'none'",
    "pb=44~none~~": r"pb: got '44'",
    "zoom=2": r"state: got 'zoom', expected one of t, v, ",
    "t=4&t=5": r"t: got '5', expected it once, and it is 4 already",
    "t=4&token=5": r"t: got '5', expected it once",
    "everything": r"state: got 'everything', expected NAME=VALUE",
}


@pytest.fixture(scope="module")
def record() -> Record:
    return make_record(pairs=((0, 1), (1, 2)))


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_state_is_refused_by_the_name_of_its_part(record: Record, text: str) -> None:
    with pytest.raises(OpeningError, match=WRONG[text]) as refused:
        render_report(record, opening=text)
    assert re.fullmatch(r"[\w/]+: got .+, expected .+; .+", str(refused.value))


def test_a_state_marks_what_is_on_and_no_more(record: Record) -> None:
    report = build_report(record)
    start, found = usual(report), opening_of(report, "#t=4&v=none&l=1&h=2&m=map&box=70,40,121,90")
    assert found.row == "t4"
    assert found.address == "#t=4&v=none&l=1&h=2&m=map&box=70,40,121,90"
    assert found.checked - start.checked == {"t4", "v1", "s1-6", "m-map"}
    assert start.checked - found.checked == {report.first_key, "v0", "s1-0", "m-heat"}
    assert opening_of(report, "v=none&l=1").checked - start.checked == {"v1"}, (
        "a layer's mean has no element of its own"
    )
    assert "s4-2" in opening_of(report, "v=pairs&l=1&h=2").checked
    assert opening_of(report, "t=4,5,max").row == "t4"
    assert opening_of(report, "pa=4,5~none~1~&pb=mean").checked == start.checked


def test_a_page_without_a_state_says_nothing_of_it(record: Record) -> None:
    assert "data-open" not in render_report(record)
    assert ' data-open="#t=4&amp;v=none"' in render_report(record, opening="t=4&v=none")


def test_the_command_names_the_option(record: Record, tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.npz").write_bytes(encode(record))
    assert main(["render", str(tmp_path / "run.npz"), "--open", "t=4&view=none"]) == 0
    assert 'data-open="#t=4' in (tmp_path / "run.html").read_text("utf-8")
    assert main(["render", str(tmp_path / "run.npz"), "--open", "t=40", "--force"]) != 0
    assert "--open: t: got '40', expected tokens of 0 to 11" in capsys.readouterr().err
