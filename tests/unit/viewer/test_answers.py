"""Several answers of one request, or several records of one question, as one page; what does not belong together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llava_viewer.cli.main import main
from llava_viewer.pages.answers import TogetherError, choices_of, prefixed, prefixed_css, together
from llava_viewer.pages.opening import OpeningError
from llava_viewer.pages.report import render_report
from llava_wire import encode
from support.answers import make_answers
from support.several import make_several
from support.synthetic import make_record


def test_choices_are_told_apart_by_number_text_and_score() -> None:
    record = make_answers((("A", " cat"), ("A", " cat"), ("No",)))
    first, second, third = choices_of(record)
    assert [one.score for one in (first, second, third)] == [
        "log p −0.30 · score −0.25", "log p −0.60 · score −0.50", "log p −0.60 · score −0.75",
    ]  # fmt: skip
    assert (first.text, second.text, third.text) == ("A cat", "A cat (the same text as 1)", "No")
    assert third.spoken == "Answer 3 of 3: log p −0.60 · score −0.75: No"
    assert choices_of(record.sequence(0)) == []
    drawn = replace(record, facts=replace(record.facts, sampling={"seed": 12, "temperature": 1.0}))
    assert choices_of(drawn)[0].score == "log p −0.30 · seed 12"


def test_a_page_of_one_answer_holds_nothing_of_the_switch() -> None:
    record = make_answers()
    alone, several = render_report(record.sequence(0)), render_report(record)
    for mark in ("data-answer=", "choices", "[data-answer", "n1-", 'name="n"'):
        assert mark not in alone
        assert mark in several
    assert several.count("data:image/png;base64," + "iVBOR") > 0
    photo = alone.split('id="photo" href="')[1][:2000]
    assert several.count(photo) == 1, "the image stands in the page once"


def test_text_cannot_play_at_being_an_attribute() -> None:
    hostile = ' id="t0" for="t0" href="#t0" name="t'
    record = make_answers((("A",), (hostile,)), prompt=hostile)
    page = render_report(record)
    assert "&#34;t0&#34;" in page
    part = '<a id="t0" href="#t0"> id=&#34;t0&#34; <b aria-labelledby="t0 else" data-id="t0">'
    assert prefixed(part, "n2") == (
        '<a id="n2-t0" href="#n2-t0"> id=&#34;t0&#34; <b aria-labelledby="n2-t0 else" data-id="t0">'
    )
    assert prefixed(part, "n0") == part
    rules = "#t0:checked~.desk [for=t0]{color:#808080}"
    assert prefixed_css(rules, "n1") == ":where([data-answer=n1]){#n1-t0:checked~.desk [for=n1-t0]{color:#808080}}"


@pytest.mark.parametrize(
    ("state", "told"), [("n=3", "0 to 2"), ("answer=x", "0 to 2"), ("n=1&t=9", "tokens of 0 to 7")]
)
def test_an_answer_that_is_not_there_is_refused(state: str, told: str) -> None:
    with pytest.raises(OpeningError, match=told):
        render_report(make_answers(), opening=state)
    with pytest.raises(OpeningError, match="n: got '1', expected the number of an answer, 0, the only one"):
        render_report(make_answers().sequence(0), opening="n=1")


def test_records_of_one_question_become_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = make_answers()
    files = [tmp_path / f"{name}.npz" for name in "abc"]
    for number, path in enumerate(files):
        path.write_bytes(encode(replace(whole.sequence(number), picture=whole.picture if number == 1 else None)))
    assert main(["render", *map(str, files), "--open", "n=2"]) == 0
    out = capsys.readouterr().out
    assert out.strip() == str(tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text("utf-8")
    assert page.count('name="n"') == 3
    assert "This record carries no image" not in page, "one of them has it"
    assert main(["render", *map(str, files), "--sequence", "1"]) == 2
    assert "--sequence: got it with 3 records, expected one" in capsys.readouterr().err


def test_what_does_not_belong_together_is_refused_with_both_facts() -> None:
    record = make_record()
    for other, told in (
        (make_record(prompt="Why?"), r"the question 'Why\?' \(b\) and 'What is there\?' \(a\)"),
        (make_record(seed=3), "images"),
        (make_several(), "the question"),
    ):
        with pytest.raises(TogetherError, match=f"answers: got {told}"):
            together([record, other], ["a", "b"])
