"""Keys that came to version 1 later (checks, notes, a prompt's texts): kept, absent when empty, shown by readers."""

from __future__ import annotations

import argparse
import dataclasses
import json

import pytest

from llava_viewer.cli.commands import _give
from llava_viewer.cli.inspect import summary, summary_text
from llava_viewer.pages.report import render_report
from llava_wire import decode, encode
from llava_wire.record import Record
from llava_wire.schema import Note
from llava_wire.writing import document
from support.synthetic import make_record

NOTE = Note("transparency", "image", "The image was transparent in places, which were made white.")
CHECK = {"self_test": {"result": "passed", "row_error": 2.5e-7, "prompt_tokens": 512}}


@pytest.fixture
def noted() -> Record:
    record = make_record()
    return dataclasses.replace(record, facts=dataclasses.replace(record.facts, checks=CHECK, notes=(NOTE,)))


def test_they_come_back(noted: Record) -> None:
    again = decode(encode(noted))
    assert again.facts.notes == (NOTE,)
    assert again.facts.checks == CHECK


def test_a_record_without_them_has_no_keys_for_them() -> None:
    assert not {"checks", "notes"} & document(make_record()).keys()
    assert decode(encode(make_record())).facts.notes == ()


def test_the_texts_of_a_prompt_come_back_and_are_absent_in_earlier_records() -> None:
    record = make_record()
    assert "texts" not in document(record)["prompt"]
    texts = tuple(f" {i}" for i in range(len(record.facts.prompt.ids)))
    prompt = dataclasses.replace(record.facts.prompt, texts=texts)
    again = decode(encode(dataclasses.replace(record, facts=dataclasses.replace(record.facts, prompt=prompt))))
    assert again.facts.prompt.texts == texts
    assert decode(encode(record)).facts.prompt.texts == ()


def test_every_reader_shows_them(noted: Record, capsys: pytest.CaptureFixture[str]) -> None:
    text = summary_text(summary(noted, "run.npz", 1))
    report = render_report(noted)
    _give(noted, argparse.Namespace(output=None, report=None, parameter=None, view=None, check=None), outputs=None)  # type: ignore[arg-type]
    assert f"note: {NOTE.text}" in capsys.readouterr().err
    for shown in (text, report):
        assert NOTE.text in shown
        assert "Self-test" in shown
        assert "passed; row error 2.5e-07; prompt tokens 512" in shown
    assert json.loads(json.dumps(summary(noted, "run.npz", 1)))["notes"][0]["code"] == "transparency"


def test_a_report_says_when_nothing_was_recorded() -> None:
    assert "not recorded" in render_report(make_record())


def test_a_comparison_says_whose_note_it_is(noted: Record) -> None:
    from llava_viewer.pages.compare import Pick, render_compare

    page = render_compare([Pick(make_record(), "a"), Pick(noted, "b")])
    assert f"B: {NOTE.text}" in page
