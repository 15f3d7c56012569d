"""Words of a question as text: byte-level and SentencePiece vocabularies, in records with and without `texts`."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from llava_viewer.export import file_names, show, write_csv, write_npz
from llava_viewer.look.pieces import prompt_texts
from llava_viewer.look.rows import question_rows
from llava_viewer.pages.report import render_report
from llava_wire.record import Record
from llava_wire.schema import Query
from support.synthetic import make_record

BYTE_LEVEL = ("OÃ¹", "Ġest", "Ġle", "Ġcaf", "Ã©", "Ġ", "ðŁ", "ĺ", "Ģ", "?", "Ċ")
SENTENCE = (
    "▁O",
    "ù",
    "▁est",
    "▁le",
    "▁caf",
    "<0xC3>",
    "<0xA9>",
    "▁",
    "<0xF0>",
    "<0x9F>",
    "<0x98>",
    "<0x80>",
    "?",
    "<0x0A>",
)


def asked(pieces: Sequence[str], answered: Sequence[str] = (), texts: Sequence[str] = ()) -> Record:
    """A record whose question has these pieces, each with a row of attention."""
    made = make_record(words=tuple(" w" for _ in pieces), reductions=("layers_heads",))
    prompt = made.facts.prompt
    start = len(prompt.ids)
    prompt = replace(
        prompt, ids=(*prompt.ids, *range(900, 900 + len(pieces))), pieces=(*prompt.pieces, *pieces),
        texts=(*("" for _ in prompt.ids), *texts) if texts else (),
    )  # fmt: skip
    queries = [Query("prompt", start + i, start + i, 0) for i in range(len(pieces))]
    tokens = tuple(
        replace(token, piece=piece)
        for token, piece in zip(made.tokens, [*answered, *("w" for _ in made.tokens)], strict=False)
    )
    return replace(made, facts=replace(made.facts, prompt=prompt, queries=(*queries, made.queries[-1]), tokens=tokens))


def words_of(record: Record) -> list[str]:
    """The texts of the question's own ids."""
    return [prompt_texts(record)[query.token] for query in record.queries if query.kind == "prompt"]


def test_byte_level_pieces_become_text() -> None:
    assert words_of(asked(BYTE_LEVEL)) == ["Où", " est", " le", " caf", "é", " ", "", "", "😀", "?", "\n"]


def test_sentence_pieces_become_text() -> None:
    found = words_of(asked(SENTENCE))
    assert found == [" O", "ù", " est", " le", " caf", "", "é", " ", "", "", "", "😀", "?", "\n"]


def test_the_records_own_texts_go_first() -> None:
    assert words_of(asked(["Ã©", "x"], texts=["é", "y"])) == ["é", "y"]


@pytest.mark.parametrize(
    ("pieces", "texts"),
    [
        (["Où", "est"], ["Où", "est"]),  # letters that are no bytes: plain text
        (["<|im_start|>", "Ã©", "<｜x▁y｜>"], ["<|im_start|>", "é", "<｜x▁y｜>"]),  # an added token among bytes
        (["▁Ġ", "ara"], [" Ġ", "ara"]),  # a letter of Maltese in SentencePiece
        (["▁a", "<0xF0>", "<0x9F>", "▁b"], [" a", "", "�", " b"]),  # bytes that never became a character
        (["▁a", "<0xF0>"], [" a", "�"]),
        (["什么", "颜色"], ["什么", "颜色"]),
    ],
)
def test_the_pieces_tell_how_they_are_written(pieces: list[str], texts: list[str]) -> None:
    assert words_of(asked(pieces)) == texts


def test_the_answers_pieces_help_to_tell() -> None:
    assert words_of(asked(["é"], answered=["▁x"])) == ["é"]
    assert words_of(asked(["Ã©"], answered=["▁x"])) == ["Ã©"], "SentencePiece writes letters as they are"


@pytest.mark.parametrize("pieces", [BYTE_LEVEL, SENTENCE], ids=["bytes", "sentence"])
def test_report_gallery_and_tables_show_words(pieces: tuple[str, ...], tmp_path: Path) -> None:
    record = asked(pieces)
    rows = question_rows(record)
    assert (
        "".join((" " if row.spaced else "") + row.text for row in rows).replace("·", "").strip()
        == "Où est le café ␣😀? ↵"
    )
    assert all(row.text for row in rows)
    page = render_report(record)
    for word in ("est", "é", "😀"):
        assert f">{word}</label>" in page, "in the question"
        assert f"<b>{word}</b></label>" in page, "in the gallery"
    shown = show(record)
    write_csv(shown, tmp_path / "numbers.csv")
    with (tmp_path / "numbers.csv").open(encoding="utf-8", newline="") as stream:
        texts = {json.loads(line["text"]) for line in csv.DictReader(stream) if line["kind"] == "prompt"}
    assert texts == set(words_of(record))
    write_npz(shown, tmp_path / "numbers.npz")
    captions = [text for name, text in file_names(record, shown.view) if name.startswith("question")]
    assert captions == [row.text for row in rows]
