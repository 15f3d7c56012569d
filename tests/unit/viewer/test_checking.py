"""A record that exists, tested: what is asked of the server, and that nothing else of the record changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llava_viewer.cli import main
from llava_viewer.client import Client, RequestError
from llava_wire import Record, decode, encode
from llava_wire.choose import choose_patches
from llava_wire.findings.patches import PatchCheck, WordPatches, brightest
from support.replies import GrpcServer, HttpServer, Reply
from support.synthetic import make_picture, make_record

Server = HttpServer | GrpcServer
Connect = Callable[..., Client]
RECORD = make_record(words=("A", " red", "."), reductions=("none", "layers_heads", "all"))
KEPT = Path(__file__).parents[2] / "data" / "records"
SELF = {"result": "passed", "row_error": 0.5}


def replayed(record: Record, **changed: Any) -> Record:
    """What a server would answer: its own maps, its own self-test, both checks."""
    words = tuple(WordPatches(step, (step,), 0.5, 0.25, *[0.125] * 6) for step in range(3))
    checks = {
        "self_test": SELF,
        "image": {"result": "measured", "needing": 1, "of": 3, "nats": 1.0},
        "patches": {"result": "measured", **PatchCheck("", 0, 16, 0, 3, words).to_plain()},
    }
    tokens = tuple(replace(token, logprob=token.logprob - 0.01, without_image=-3.0) for token in record.tokens)
    other = make_record(words=("A", " red", "."), reductions=("layers_heads",), seed=9, with_picture=False)
    facts = replace(record.facts, tokens=tokens, checks=checks, queries=other.facts.queries)
    return replace(other, facts=replace(facts, **changed), picture=None)


def test_the_patches_of_the_records_own_maps_are_asked_about(server: Server, connect: Connect) -> None:
    server.reply = Reply(encode(replayed(RECORD)))
    checked = connect(server).check(RECORD)
    (seen,) = server.seen
    maps = choose_patches(RECORD.views["layers_heads"])
    wanted = {str(step): list(brightest(maps[step], 4)) for step in range(3)}
    assert seen.options["check"] == [{"name": "image"}, {"name": "patches", "patches": wanted}]
    found = PatchCheck.of_checks(checked.facts.checks, len(checked.tokens), 64)
    assert found is not None
    assert (found.view, found.top, found.of, len(found.words)) == ("layers_heads", 4, 3, 3)
    assert "image" not in [one["name"] for one in _asked_again(server, connect, checked)]


def _asked_again(server: Server, connect: Connect, record: Record) -> list[dict[str, Any]]:
    connect(server).check(record)
    return list(server.seen[-1].options["check"])


def test_nothing_else_of_the_record_changes(server: Server, connect: Connect) -> None:
    before = replace(RECORD, facts=replace(RECORD.facts, checks={"self_test": {"result": "not tested"}}))
    server.reply = Reply(encode(replayed(RECORD)))
    checked = connect(server).check(before, ["image", {"name": "patches", "view": "none", "steps": [1], "top": 7}])
    [_, patches] = server.seen[0].options["check"]
    own = choose_patches(RECORD.views["none"])[1]
    assert patches == {"name": "patches", "patches": {"1": list(brightest(own, 7))}}
    assert checked.facts.checks["self_test"] == {"result": "not tested"}
    assert [token.without_image for token in checked.tokens] == [-3.0] * len(RECORD.tokens)
    plain = replace(checked, facts=replace(checked.facts, checks=before.facts.checks, tokens=before.facts.tokens))
    assert encode(plain) == encode(before)
    for name, view in before.views.items():
        np.testing.assert_array_equal(checked.views[name].stored, view.stored)
    assert checked.picture == before.picture
    assert [replace(token, without_image=None) for token in checked.tokens] == list(before.tokens)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"tokens": [(1, {"text": " blue"})]}, "tokens: got a replay that differs from the record at 1"),
        ({"tokens": [(2, {"id": 3})]}, "tokens: got a replay that differs from the record at 2"),
        ({"tokens": [(1, {"logprob": -9.0})]}, r"tokens\[1\]: got a replay with probability 0.000"),
        ({"prompt": {"ids": (1, 2)}}, "prompt.ids: got a replay that differs"),
        ({"images": "other"}, "images: got a replay that differs"),
    ],
)
def test_a_replay_of_other_words_is_refused(server: Server, connect: Connect, changed: Any, says: str) -> None:
    facts = replayed(RECORD).facts
    tokens = list(facts.tokens)
    for place, parts in changed.get("tokens", ()):
        tokens[place] = replace(tokens[place], **parts)
    images = facts.images if "images" not in changed else (replace(facts.images[0], sha256="c" * 64),)
    again = replayed(RECORD, tokens=tuple(tokens), images=images)
    if "prompt" in changed:
        moved = replace(facts.prompt, ids=(*facts.prompt.ids[:-1], facts.prompt.ids[-1] + 1))
        again = replayed(RECORD, prompt=moved)
    server.reply = Reply(encode(again))
    with pytest.raises(ValueError, match=says):
        connect(server).check(RECORD)


@pytest.mark.parametrize(
    ("check", "says"),
    [
        ({"view": "x"}, "view: got 'x'"),
        ({"view": "all"}, "one map for the whole answer"),
        ({"steps": [5]}, "steps: got 5, expected tokens with a map"),
    ],
)
def test_what_the_record_does_not_have_is_refused_unasked(
    server: Server, connect: Connect, check: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        connect(server).check(RECORD, [{"name": "patches", **check}])
    assert server.seen == []


def test_a_server_that_knows_no_such_check_says_so(server: Server, connect: Connect) -> None:
    refusal = RequestError("invalid", "options.check", "got 'patches', expected ['image']").to_body()
    server.reply = Reply(json.dumps(refusal).encode(), 422)
    with pytest.raises(RequestError, match=r"options\.check"):
        connect(server).check(RECORD)


@pytest.mark.parametrize("path", sorted(KEPT.glob("v*/*.npz")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_records_of_every_version_take_checks(path: Path) -> None:
    from llava_viewer.client.replays.checking import asked, usual_checks, with_checks

    record = decode(path.read_bytes())
    named, own = asked(record, usual_checks(record))
    checks = {"image": {"result": "not tested", "reason": "x"}, "patches": {"result": "not tested", "reason": "y"}}
    again = replace(record, facts=replace(record.facts, checks=checks))
    checked = decode(encode(with_checks(record, again, named, own)))
    tested = {check["name"]: checks[check["name"]] for check in named}
    assert ("patches" in tested, "image" in tested) == (True, "image" not in record.facts.checks)
    assert checked.facts.checks == {**record.facts.checks, **tested}
    for name, view in record.views.items():
        np.testing.assert_array_equal(checked.views[name].stored, view.stored)


def test_the_command_needs_what_it_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.npz"
    path.write_bytes(encode(RECORD))
    for arguments, says in (
        (["--check", "none"], "--check: got none"),
        (["--check", "image", "--top", "3"], "--top: got it without the check patches"),
        (["-o", str(path)], "which this command reads"),
        (["--sequence", "1"], "sequence: got 1"),
    ):
        assert main(["check", str(path), "--url", "http://127.0.0.1:9", *arguments]) in (1, 2)
        assert says in capsys.readouterr().err


def test_predict_tells_what_its_checks_found(
    http_server: HttpServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "x.png"
    make_picture(256, 192).save(picture)
    checks = {"image": {"result": "measured", "needing": 1, "of": 2, "nats": 1.0}}
    http_server.reply = Reply(encode(replace(RECORD, facts=replace(RECORD.facts, checks=checks))))
    ask = ["predict", str(picture), "what?", "--url", http_server.address, "--model", "synthetic", "--token", "key"]
    for asked, told in (([], False), (["--check", "image"], True), (["--check", '{"name":"image"}'], True)):
        assert main([*ask, *asked]) == 0
        out, err = capsys.readouterr()
        assert out == f"{RECORD.answer}\n"
        assert ("Needs the image: 1 of 2 tokens need the image" in err) is told
