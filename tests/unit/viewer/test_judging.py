"""What a client says of an answer: rules, a person's verdict, tags; from Python and by the command, into the index."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from llava_viewer import annotated, load
from llava_viewer.cli import main
from llava_viewer.judging import BY_HAND
from llava_viewer.pages.index import write_index
from llava_wire import encode
from llava_wire.schema import Annotations
from support.replies import GrpcServer, HttpServer, Reply
from support.synthetic import make_picture, make_record

RECORD = make_record(words=("A", " red", " circle", "."), reductions=("layers_heads",), with_picture=False)
OTHER = make_record(words=("A", " blue", " star"), reductions=("layers_heads",), with_picture=False).without_run()


@pytest.mark.parametrize(
    ("rule", "expected", "right"),
    [
        ("exact", " A red circle.\n", True),
        ("exact", "a red circle.", False),
        ("exact", "A red circle", False),
        ("contains", "Red  Circle", True),
        ("contains", "circle red", False),
        ("contains", "red circle.", True),
        ("contains", "circ", False),
        ("contains", "ed", False),
    ],
)
def test_the_rules(rule, expected, right):
    said = annotated(RECORD, expected, rule=rule).facts.annotations
    assert said == Annotations(expected.strip(), rule, right, ())


def test_white_space_inside_an_answer_is_one_blank_and_marks_are_one_way_to_write():
    spaced = replace(RECORD, facts=replace(RECORD.facts, answer="two\n red cafe\u0301s"))
    assert annotated(spaced, "two red", rule="contains").facts.annotations.right
    assert annotated(spaced, "caf\u00e9s", rule="contains").facts.annotations.right
    assert not annotated(spaced, "caf\u00e9", rule="contains").facts.annotations.right


def test_what_was_said_stays_until_it_is_said_anew():
    first = annotated(RECORD, "A star.", tags=["shapes", " shapes ", "left"])
    tagged = annotated(first, tags=["new"])
    assert tagged.facts.annotations == Annotations("A star.", "exact", False, ("shapes", "left", "new"))
    assert annotated(tagged, right=True).facts.annotations == Annotations(
        "A star.", BY_HAND, True, tagged.facts.annotations.tags
    )
    assert annotated(RECORD) == RECORD


def test_each_of_several_answers_is_judged_by_itself():
    both = replace(RECORD, alternatives=(OTHER,))
    judged = annotated(both, "blue", rule="contains")
    assert [judged.facts.annotations.right, judged.alternatives[0].facts.annotations.right] == [False, True]
    one = annotated(both, "blue", rule="contains", sequence=1)
    assert one.facts.annotations is None
    assert one.alternatives[0].facts.annotations.right


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"expected": " "}, "expected: got 0 characters, expected 1 to"),
        ({"expected": "a", "rule": "vqa"}, r"rule: got 'vqa', expected one of \['exact', 'contains'\]"),
        ({"tags": ["ok", ""]}, "tag: got 0 characters"),
        ({"tags": [f"t{number}" for number in range(101)]}, "tags: got 101, expected 100"),
        ({"right": True, "sequence": 1}, "sequence: got 1"),
    ],
)
def test_what_no_record_takes(said, message):
    with pytest.raises(ValueError, match=message):
        annotated(RECORD, **said)


def test_predict_judges_as_the_answer_comes(server: HttpServer | GrpcServer, tmp_path: Path, capsys):
    server.reply = Reply(encode(replace(RECORD, alternatives=(OTHER,))))
    make_picture(256, 192).save(tmp_path / "x.png")
    asked = [
        "predict",
        f"{tmp_path}/x.png",
        "what?",
        "--url" if isinstance(server, HttpServer) else "--grpc",
        server.address,
    ]
    assert main([*asked, "--expected", "blue", "--rule", "contains", "--tag", "a b", "-o", f"{tmp_path}/run.npz"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "A red circle.\nA blue star\n"
    assert re.findall(r"^(\w+) \(contains\): expected 'blue'$", captured.err, re.M) == ["wrong", "right"]
    assert load(tmp_path / "run.npz").facts.annotations == Annotations("blue", "contains", False, ("a b",))
    assert main([*asked, "--rule", "contains"]) == main([*asked, "--format", "json", "--tag", "a"]) == 2
    assert len(server.seen) == 1, "nothing was asked"


def test_annotate_writes_what_the_report_and_the_index_show(tmp_path: Path, capsys):
    (tmp_path / "run.npz").write_bytes(encode(RECORD))
    run, judged = f"{tmp_path}/run.npz", f"{tmp_path}/out/judged.npz"
    told = ["--expected", "A <b>star</b>.", "--tag", "to <i>see</i>"]
    assert main(["annotate", run, *told, "-o", judged, "--report", f"{tmp_path}/out/judged.html"]) == 0
    assert capsys.readouterr().err.startswith("wrong (exact): expected 'A <b>star</b>.'\nwrote ")
    report = (tmp_path / "out" / "judged.html").read_text("utf-8")
    assert "expected “A &lt;b&gt;star&lt;/b&gt;.”" in report
    assert "to &lt;i&gt;see&lt;/i&gt;" in report
    page = write_index(tmp_path / "out").read_text("utf-8")
    assert '<b class="wrong">wrong</b>; expected' in page
    assert "to &lt;i&gt;see&lt;/i&gt;" in page
    assert main(["annotate", judged, "--right", "-o", f"{tmp_path}/again.npz"]) == 0
    said = load(tmp_path / "again.npz").facts.annotations
    assert (said.right, said.rule, said.tags) == (True, BY_HAND, ("to <i>see</i>",))


@pytest.mark.parametrize("more", [["-o", "x.npz"], ["--tag", "a"], ["--rule", "exact", "--right", "-o", "x.npz"]])
def test_annotate_needs_something_to_say_and_a_place(more, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("run.npz").write_bytes(encode(RECORD))
    assert main(["annotate", "run.npz", *more]) == 2
    assert "got" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]
