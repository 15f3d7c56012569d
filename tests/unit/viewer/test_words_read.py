"""Views of text in pages and on the command line: words with their numbers, and no map where none is."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llava_viewer.cli import main
from llava_viewer.look.rows import MOST, answer_rows, token_texts, words_read
from llava_viewer.look.view_model import LEVELS
from llava_viewer.pages.report import ReportTooLargeError, render_report
from llava_wire import Record, encode
from llava_wire.view import TextView
from support.several import make_several, make_worded


@pytest.fixture
def record() -> Record:
    return make_worded()


@pytest.fixture
def file(record: Record, tmp_path: Path) -> Path:
    path = tmp_path / "run.npz"
    path.write_bytes(encode(record))
    return path


def test_the_words_of_the_largest_values_are_named_in_reading_order(record):
    shown, view = token_texts(record), record.texts["words"]
    for row, (words, rise) in enumerate(words_read(record)):
        values = dict(zip(view.positions, view.values[row].tolist(), strict=True))
        best = sorted(sorted(values, key=lambda place: -values[place])[:MOST])
        named = [place for place in best if values[place]]
        assert [text for text, _, _ in (*words.prompt, *words.answer)] == [shown[place] for place in named]
        assert len(words.prompt) == sum(place < len(record.facts.prompt.ids) for place in named)
        assert max(level for _, _, level in (*words.prompt, *words.answer)) == LEVELS
        assert words.total == "50\u00a0%"
        assert words.title == "“words”, mean of all 2 layers × heads 0, 2"
        assert all("logit" in value for _, value, _ in (*rise.prompt, *rise.answer))
    assert all(row.reads for row in answer_rows(record) if row.key)


def test_a_report_says_them_with_their_numbers_and_shows_no_map_of_them(record):
    page = render_report(record)
    assert page.count("Words it read") == 2 * len(record.queries)
    assert "All words together: 50" in page
    assert "View “words”, of text" in page
    assert not re.search(r'data-name="(words|rise)"', page)
    plain = render_report(make_several())
    assert "Words it read" not in plain
    assert ".reads" not in plain


def test_more_words_than_a_page_holds_are_refused_before_it_is_made(record):
    many = {f"words {number}": record.texts["words"] for number in range(30_000)}
    with pytest.raises(ReportTooLargeError, match=r"report: got 29\.\d\sMB or more"):
        render_report(replace(record, texts=many))


def test_text_of_strangers_is_escaped(record):
    prompt = record.facts.prompt
    texts = tuple(f"<img src=x onerror=alert({place})>\u202e" for place in range(len(prompt.ids)))
    page = render_report(replace(record, facts=replace(record.facts, prompt=replace(prompt, texts=texts))))
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
    assert "\u202e" not in page


def test_a_row_of_nothing_says_so_without_a_division(record):
    bare = TextView(record.texts["words"].facts, np.zeros_like(record.texts["words"].values))
    [*_, (words,)] = words_read(replace(record, texts={"words": bare}))
    assert (words.prompt, words.answer) == ((), ())
    render_report(replace(record, texts={"words": bare}))


def test_inspect_tells_them(record, file, capsys):
    assert main(["inspect", str(file)]) == 0
    said = capsys.readouterr().out
    assert "words that words read, by position" in said
    assert main(["inspect", str(file), "--json"]) == 0
    texts = json.loads(capsys.readouterr().out)["texts"]
    assert [text["name"] for text in texts] == ["words", "rise"]
    view = record.texts["words"]
    for row, told in enumerate(texts[0]["rows"]):
        assert [(word["position"], word["value"]) for word in told["words"]] == view.most(row, MOST)


@pytest.mark.parametrize("kind", ["csv", "npz", "png", "gif"])
def test_figures_and_tables_of_maps_refuse_them_by_name(kind, file, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", str(file), "--as", kind, "--view", "words", "--grid", "base", "-o", str(out)]) != 0
    assert "'words', which is one of text and has no maps" in capsys.readouterr().err
    assert not out.exists()
