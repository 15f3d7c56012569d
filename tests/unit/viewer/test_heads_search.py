"""A search for heads: what is asked of a server, planted heads found, everything odd said; sets written and read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llava_eval.criterion import criterion
from llava_viewer.cli import main
from llava_viewer.files import HEADS as KIND
from llava_viewer.files import kind_of
from llava_viewer.heads import asking
from llava_viewer.heads.findings import Findings
from llava_viewer.heads.questions import Question
from llava_viewer.heads.search import NothingFoundError, Search, Wanted
from llava_viewer.heads.sets import SetsError, document, encoded, read_set
from llava_viewer.heads.table import lines
from llava_wire import Record, RequestError, encode
from support.heads import ALWAYS, GRID, LAYERS, NEVER, Canned, told
from support.replies import HttpServer, Reply
from support.synthetic import make_picture

WORDS = ("A", " red", " star")
NEEDING = (False, True, True)
BOTH = ("pointing", "agreement")


def runs(count: int, **how: Any) -> dict[str, Record]:
    """Runs about as many images; the answers differ, and what the words are about lies elsewhere in each."""
    made = {}
    for number in range(count):
        words = (f"A{number}", " red", " star")
        patches = [(number + shift) % GRID**2 for shift in (0, 3, 7)]
        made[f"{number}.png"] = told(words, patches, **{"needing": NEEDING, "digest": f"{number:x}"[-1], **how})
    return made


def questions(made: dict[str, Record]) -> list[Question]:
    """One about each image, with the box of the star: the patch that matters for its last word."""
    found = []
    for number, (name, record) in enumerate(made.items()):
        rects = record.patch_rects()
        boxes = {"red star": (tuple(map(float, rects[(number + 7) % GRID**2])),)}
        found.append(Question(f"mine line {number}", "What?", name, image=Path(name), boxes=boxes))  # type: ignore[arg-type]
    return found


def found_by(made: dict[str, Record], names: tuple[str, ...] = BOTH, **wanted: Any) -> tuple[Findings, Canned]:
    """What a search finds, and the server that it asked."""
    server = Canned(made)
    criteria = {name: criterion(name) for name in names}
    return Search(server, Wanted(criteria, **wanted)).run(questions(made)), server


def test_planted_heads_are_found_with_boxes_and_without() -> None:
    found, _ = found_by(runs(12))
    by_name = {(table.kind, table.criterion): table.ranking for table in found.tables}
    assert set(by_name) == {("word", "agreement"), *((k, c) for k in ("phrase", "first", "last") for c in BOTH)}
    for kind, name in (("word", "agreement"), ("last", "agreement"), ("last", "pointing")):
        assert by_name[kind, name].chosen == (ALWAYS,), (kind, name)
        assert by_name[kind, name].order()[0] == ALWAYS
    assert by_name["last", "pointing"].scores[ALWAYS] == 1
    assert by_name["last", "pointing"].scores[NEVER] == 0
    assert by_name["first", "pointing"].scores[ALWAYS] == 0, "the row of another word looks elsewhere"
    assert (found.questions, found.images, found.words, found.needing) == (12, 12, 36, 24)
    assert [(role.ranking.chosen, role.texts, role.again) for role in found.roles] == [
        ((ALWAYS,), ("red", "star"), 1.0)
    ]
    assert found.notes == ()
    kinds, _ = found_by(runs(12), ("agreement",), kinds={"thing": frozenset({"star"})})
    assert [(table.kind, table.ranking.words) for table in kinds.tables] == [("thing", 12)]
    assert kinds.roles == ()


def test_an_answer_with_few_maps_then_the_rows_of_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    made = runs(2)
    whole, server = found_by(made)
    assert [what for what, _ in server.asked] == ["predict", "replay"] * 2
    predicted, replayed = server.asked[0][1], server.asked[1][1]
    assert predicted["check"] == ["image"]
    assert [view["layers"] for view in predicted["views"]] == [[0]]
    assert replayed["steps"] == [1, 2], "not those of words that do not need the image"
    assert replayed["check"] == []
    assert [view.get("method") for view in replayed["views"]] == [None, "contributions"]
    # Where a reply would grow large, layers are asked for in parts, and contributions once.
    monkeypatch.setattr(asking, "_REPLY_BYTES", 1)
    parts, server = found_by(made)
    asked = [options["views"] for what, options in server.asked if what == "replay"][:LAYERS]
    assert [views[0]["layers"] for views in asked] == [[0], [1], [2]]
    assert [len(views) for views in asked] == [2, 1, 1]
    for one, other in zip(whole.tables, parts.tables, strict=True):
        assert (one.ranking.scores == other.ranking.scores).all()
    _, server = found_by(made, ("pointing",), every=True)
    assert server.asked[0][1]["check"] == []
    assert len(server.asked[1][1]["views"]) == 1


def test_runs_that_hold_everything_need_no_server(tmp_path: Path) -> None:
    made = runs(3)
    asked = []
    for name, record in made.items():
        path = tmp_path / name.replace("png", "npz")
        path.write_bytes(encode(record))
        asked.append(Question(name, "What?", name, record=path))
    search = Search(Canned({}), Wanted({"agreement": criterion("agreement")}))
    from_runs = search.run(asked)
    asked_for, _ = found_by(made, ("agreement",))
    own = {table.kind: table.ranking.scores for table in asked_for.tables}
    np.testing.assert_allclose(from_runs.tables[0].ranking.scores, own["word"], atol=1e-6)


class Refusing(Canned):
    """Refuses some images."""

    def predict(self, image: Path, prompt: str, options: Any) -> Record:
        if image.name in self.refused:
            raise self.refused[image.name]
        return super().predict(image, prompt, options)

    refused: dict[str, RequestError] = {}  # noqa: RUF012


def test_a_question_that_is_refused_is_skipped_and_what_concerns_all_ends_the_search() -> None:
    made = runs(12)
    server, said = Refusing(made), list[str]()
    server.refused = {"3.png": RequestError("invalid", "image", "got 1 x 9 px, expected shapes up to 4:1; crop it")}
    search = Search(server, Wanted({"agreement": criterion("agreement")}), said.append)
    found = search.run(questions(made))
    assert (found.questions, found.images) == (11, 11)
    assert "warning: mine line 3 was skipped: image: got 1 x 9 px, expected shapes up to 4:1; crop it" in said
    assert found.notes[0].startswith("1 question skipped (mine line 3: image: got 1 x 9 px")
    server.refused = {"3.png": RequestError("unauthorized", "token", "got none, expected one; name it")}
    with pytest.raises(RequestError, match="token"):
        Search(server, Wanted({"agreement": criterion("agreement")})).run(questions(made))


def test_what_is_odd_is_said() -> None:
    made = runs(2, needing=None)
    asked = [
        replace(one, boxes={"red star": ((0.0, 0.0, 1.0, 1.0),), "cat": ((0.0, 0.0, 9.0, 9.0),)})
        for one in questions(made)
    ]
    wanted = Wanted(
        {name: criterion(name) for name in BOTH}, kinds={"thing": frozenset({"star"}), "pet": frozenset({"dog"})}
    )
    found = Search(Canned(made), wanted).run(asked)
    assert found.needing is None
    assert [table.criterion for table in found.tables] == ["agreement"]
    notes = "\n".join(found.notes)
    for part in (
        "2 phrases left out, not in the answer (mine line 0: 'cat' in 'A0 red star'; mine line 1: 'cat'",
        "2 words left out, no patch has its centre in the box (mine line 0: 'star'; ",
        "2 answers not tested without the image",
        "kind pet: none of its words was found",
        "2 images: other ones may give other heads",
    ):
        assert part in notes
    with pytest.raises(NothingFoundError, match=r"got 2 questions, 6 words of the answers, 0 of them need the image"):
        Search(Canned(runs(2, needing=(False,) * 3)), wanted).run(questions(runs(2)))
    other = runs(2)
    facts = other["1.png"].facts
    other["1.png"] = replace(other["1.png"], facts=replace(facts, model=replace(facts.model, revision="2")))
    with pytest.raises(NothingFoundError, match=r"mine line 1: got model synthetic @ 2, expected synthetic @ 0"):
        found_by(other)


def test_the_file_of_sets_is_read_back_and_the_table_names_them(tmp_path: Path) -> None:
    found, _ = found_by(runs(12))
    path = tmp_path / "heads.json"
    path.write_bytes(encoded(document(found)))
    assert kind_of(path) == KIND
    kept = json.loads(path.read_bytes())
    assert kept == json.loads(json.dumps(document(found)))
    [last] = [one for one in kept["sets"] if one["name"] == "last-agreement"]
    expected = {"heads": [list(ALWAYS)], "role": "last", "rows": "answer", "n": 12, "images": 12, "model": "synthetic"}
    assert expected.items() <= last.items()
    low, high = last["intervals_95"][0]
    assert low <= last["scores"][0] <= high
    assert read_set(path, "last-agreement").heads == (ALWAYS,)
    text = "\n".join(lines(found))
    assert "  --view name=last-agreement,heads=1.1,reduction=layers_heads" in text
    assert "    role-1: [[1, 1]]" in text
    assert "* L1H1" in text
    with pytest.raises(SetsError, match=r"got 'last-agrement', .* did you mean 'last-agreement'\?"):
        read_set(path, "last-agrement")
    with pytest.raises(SetsError, match="got no name, expected FILE#NAME"):
        read_set(path)
    kept["sets"][0]["heads"] = [[1, -1]]
    path.write_text(json.dumps(kept), encoding="utf-8")
    with pytest.raises(SetsError, match=r"got \[\[1, -1\]\], expected heads as \[\[layer, head\], ...\]"):
        read_set(path, kept["sets"][0]["name"])
    path.write_text(json.dumps({**kept, "version": 9}), encoding="utf-8")
    with pytest.raises(SetsError, match="got version 9, expected 1"):
        read_set(path, "last-agreement")
    path.write_text('{"sets": []}', encoding="utf-8")
    with pytest.raises(SetsError, match="got no sets of heads"):
        read_set(path, "last-agreement")


def test_more_heads_than_a_set_takes_are_told() -> None:
    made = {name: replace(record, views={**record.views}) for name, record in runs(1).items()}
    found, _ = found_by(made, ("pointing",))
    text = "\n".join(lines(found))
    [first] = [table.ranking for table in found.tables if table.kind == "first"]
    assert first.alike > len(first.chosen)
    assert f"{first.alike} heads are as good as the best by these words" in text


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder of runs that hold everything."""
    folder = tmp_path / "runs"
    folder.mkdir()
    for name, record in runs(12).items():
        (folder / name.replace("png", "npz")).write_bytes(encode(record))
    return folder


Captured = pytest.CaptureFixture[str]


def run(capsys: Captured, *arguments: object) -> tuple[int, str, str]:
    """Runs the command; gives exit code, stdout and stderr."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def test_the_command_on_runs(store: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "heads.json"
    code, told_, err = run(capsys, "heads", store, "-o", out)
    assert code == 0
    assert err.startswith("12 questions, by agreement\n")
    assert err.splitlines()[-1].startswith(f"wrote {out} (")
    assert "word by agreement, n = 24 words, 12 images (red, star)" in told_.splitlines()
    code, as_json, _ = run(capsys, "heads", store, "--json", "--top", 2)
    assert code == 0
    assert [len(one["heads"]) for one in json.loads(as_json)["sets"]] == [2, 1]
    assert run(capsys, "heads", store, "-o", store / "0.npz")[0] == 2
    (tmp_path / "text.json").write_text("{}")
    code, _, err = run(capsys, "heads", store, "-o", tmp_path / "text.json")
    assert (code, "which holds JSON, expected a new file or sets of heads" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (
            ["--by", "agrement"],
            1,
            "error: --by: got 'agrement', expected one of ['agreement', 'localization', 'pointing']",
        ),
        (["--by", "pointing"], 2, "error: --by pointing: got no boxes, expected a line with some"),
        (["--by", "agreement", "--rows", "question"], 2, "error: --by agreement: got rows of the question"),
        (["--parameter", "weigh=mass"], 2, "error: --parameter: got it without one --by"),
        (["--by", "localization", "--parameter", "weight=mass"], 1, "did you mean 'weigh'?"),
        (["--kind", "colour"], 2, "error: argument --kind: got 'colour', expected NAME=WORD,WORD"),
        (["--kind", "a=b", "--kind", "a=c"], 2, "error: --kind: got a name twice"),
        (["--top", "0"], 2, "error: argument --top: got '0', expected a number of heads"),
        (["--kind", "pet=dog"], 1, "24 of them need the image, none of them of pet, expected a word to judge heads by"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    store: Path, capsys: Captured, arguments: list[str], code: int, says: str
) -> None:
    found, out, err = run(capsys, "heads", store, *arguments)
    assert (found, out) == (code, "")
    assert says in err


def test_every_wrong_line_is_told(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("x\n" * 12, encoding="utf-8")
    code, _, err = run(capsys, "heads", path)
    assert code == 1
    assert len(err.splitlines()) == 11
    assert err.splitlines()[-2] == "error: 2 more lines are wrong"
    assert err.splitlines()[-1].startswith("error: mine.jsonl line 1, line: got 'x', expected a JSON object (")
    assert err.splitlines()[-1].endswith("(12 of 12 lines are wrong)")


def test_a_set_of_a_file_as_heads_of_a_request(
    store: Path, tmp_path: Path, http_server: HttpServer, capsys: Captured
) -> None:
    sets, picture = tmp_path / "heads.json", tmp_path / "x.png"
    make_picture(256, 192).save(picture)
    assert run(capsys, "heads", store, "-o", sets)[0] == 0
    record = runs(1)["0.png"]
    http_server.reply = Reply(encode(record))
    ask = ["predict", picture, "what?", "--url", http_server.address, "--model", "synthetic", "--token", "key"]
    code, _, err = run(capsys, *ask, "--heads", f"{sets}#role-1")
    assert (code, "warning" in err) == (0, False)
    view = f"name=a,heads={sets}#word-agreement,reduction=layers_heads"
    assert run(capsys, *ask, "--view", view)[0] == 0
    assert [seen.options.get("heads") for seen in http_server.seen] == [[list(ALWAYS)], None]
    assert http_server.seen[1].options["views"][0]["heads"] == [list(ALWAYS)]
    # Another model's heads are refused before anything is asked, another revision's are told.
    code, _, err = run(capsys, *ask[:-4], "--model", "other", "--token", "key", "--heads", f"{sets}#role-1")
    assert code == 2
    assert "error: --heads: got role-1, heads of synthetic, expected those of other, which is asked" in err
    facts = replace(record.facts, model=replace(record.facts.model, revision="2"))
    http_server.reply = Reply(encode(replace(record, facts=facts)))
    _, _, err = run(capsys, *ask, "--heads", f"{sets}#role-1")
    assert f"warning: role-1 are heads of revision {'0' * 40}; this is 2" in err
    assert len(http_server.seen) == 3
    code, _, err = run(capsys, *ask, "--heads", f"{sets}#rolle-1")
    assert (code, "did you mean 'role-1'?" in err) == (2, True)
    code, _, err = run(capsys, *ask, "--heads", "nothing.json#a")
    assert (code, err) == (2, "error: --heads: nothing.json: No such file or directory\n")
    code, _, err = run(capsys, *ask, "--view", "name=a,heads=nothing.json#a")
    assert (code, err) == (2, "error: --view: nothing.json: No such file or directory\n")
