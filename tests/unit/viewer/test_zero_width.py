"""Tokens that nobody would see have a sign in report, comparison, index, exports and `inspect`."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from llava_viewer.cli import main
from llava_viewer.cli.console import printable, quoted
from llava_viewer.export import figure, file_names, show
from llava_viewer.export.drawing import Text
from llava_viewer.export.svg import svg_text
from llava_viewer.pages.compare import Pick, render_compare
from llava_viewer.pages.index import write_index
from llava_viewer.pages.report import render_report
from llava_wire import encode
from llava_wire.record import Record
from support.synthetic import make_record

HIDDEN = ("\ufe0f", "\u200d", "\u200b", "\xad", "\ufeff", "\u2060", "\u202e", "\u061c", "\u3164", "\U000e0001")
SIGNS = tuple(f"⟨U+{ord(char):04X}⟩" for char in HIDDEN)


@pytest.fixture(scope="module")
def record() -> Record:
    """Every token is one hidden character, or empty."""
    return make_record(words=(*HIDDEN, ""), reductions=("layers_heads",))


def labels(page: str) -> list[str]:
    return [html.unescape(text) for text in re.findall(r'<label class="tok[^>]*>(.*?)</label>', page)]


def test_a_report_and_a_comparison_show_a_sign_for_each(record: Record) -> None:
    page = render_report(record)
    assert labels(page) == [*SIGNS, "·", "</s>"]
    assert [html.unescape(text) for text in re.findall(r"<b>(.*?)</b></label><figcaption>", page)] == labels(page)
    compared = labels(render_compare([Pick(record, "a.npz"), Pick(record, "b.npz")]))
    assert [label for label in compared if label in (*SIGNS, "·")] == [*SIGNS, "·"] * 2


def test_no_hidden_character_is_left_in_any_page(record: Record, tmp_path: Path) -> None:
    (tmp_path / "run.npz").write_bytes(encode(record))
    pages = [render_report(record), render_compare([Pick(record, "a"), Pick(record, "b")])]
    pages.append(write_index(tmp_path).read_text("utf-8"))
    for page in pages:
        assert SIGNS[2] in page
        assert not [char for char in HIDDEN if char not in "\ufe0f\u200d" and char in page]


def test_every_export_shows_a_sign(record: Record) -> None:
    shown = show(record)
    assert [item.text for item in shown.items] == [*SIGNS, "·", "</s>"]
    assert [text for _, text in file_names(record, shown.view)] == [*SIGNS, "·", "</s>"]
    for item, sign in zip(shown.items, SIGNS, strict=False):
        drawing = figure(shown, item)
        assert next(mark.text for mark in drawing.marks if isinstance(mark, Text)) == sign
        assert f">{sign}</text>" in svg_text(drawing)


def test_inspect_shows_a_sign_for_each(record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.npz"
    path.write_bytes(encode(record))
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    escapes = [char.encode("unicode_escape").decode() for char in HIDDEN]
    assert [line.split()[-1] for line in out.splitlines()[-12:-1]] == [*(f"'{escape}'" for escape in escapes), "''"]
    assert not [char for char in HIDDEN if char in out.partition("token  id")[2]]


def test_a_terminal_gets_what_does_its_work_and_signs_for_the_rest() -> None:
    family, persian = "\U0001f468\u200d\U0001f469", "\u0645\u06cc\u200c\u062e"
    assert printable(f"{family} {persian} \u2764\ufe0f\n") == f"{family} {persian} \u2764\ufe0f\n"
    assert printable("a\u200bb\u200d \ufe0f\ue000") == "a\\u200bb\\u200d \\ufe0f\\ue000"
    assert quoted(" it's\xa0\ufe0f") == '" it\'s\\xa0\\ufe0f"'
    assert quoted(f"\\ {family}") == f"'\\\\ {family}'"
