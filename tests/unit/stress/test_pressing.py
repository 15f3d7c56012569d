"""The judge of loads: each claim fails by itself when its numbers are wrong, and nothing holds by default."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path

import pytest

from llava_viewer.client.transport.messages import messages
from llava_wire import decode, encode
from stress import drill
from stress.crowding import bodies
from stress.crowding.loads import LOADS
from stress.crowding.replies import Seen, grpc_word, http_word, message_word, turned_away
from stress.drill import _write
from stress.drills.beside import Answer
from stress.drills.claims import LOG_BYTES, Pressed, Run, failures, untrue_pings
from stress.drills.table import LOADS_BEGIN, LOADS_END, load_table
from support.synthetic import make_record


def answer(word: str = "right", taken_s: float = 0.1, *, patient: bool = False, at_s: float = 1.0) -> Answer:
    return Answer(at_s, taken_s, "http", word, patient)


def run(**changes: object) -> Run:
    """A run in which everything holds."""
    plain: dict[str, object] = {
        "load": [Seen("503, retry after", 0.2)] * 5 + [Seen("answered", 3.0)],
        "answers": [answer(), answer("503, retry after", 4.9), *[answer(patient=True)] * 20],
        "ended": {"java": 0, "front": 0, "worker": 0},
        "peaks_mb": {"java": 700.0, "front": 80.0, "worker": 420.0},
    }
    return Run(**{**plain, **changes})  # type: ignore[arg-type]


def of(*runs: Run, ends: str = "replies", workers_end: int = 0) -> Pressed:
    return Pressed("large_json", "{count} bodies", 56, ends, list(runs), workers_end)  # type: ignore[arg-type]


def test_a_sound_load_has_no_failure() -> None:
    assert failures(of(run(), run())) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ended": {"java": 1, "front": 0, "worker": 0}}, "java: got 1 that ended in 2 runs"),
        ({"ended": {"java": 0, "front": 2, "worker": 0}}, "front: got 2"),
        ({"ended": {"java": 0, "front": 0, "worker": 1}}, "worker: got 1"),
        ({"answers": [answer(taken_s=5.1)]}, "small requests: got 1 of"),
        ({"answers": [answer("503, retry after", 5.1)]}, "small requests: got 1 of"),
        ({"answers": [answer("503 without Retry-After")]}, "1 503 without Retry-After"),
        ({"answers": [answer("no connection")]}, "1 no connection"),
        ({"answers": [answer("got tokens [1], expected [2]")]}, "got tokens"),
        ({"answers": [answer(patient=True)] * 10 + [answer(taken_s=31, patient=True)] * 4}, "30 of 34 answered in 30"),
        ({"answers": [answer("overloaded (503)", patient=True)] * 4}, "20 of 24 answered"),
        ({"peaks_mb": {"java": 700.0, "front": 1500.0, "worker": 420.0}}, "memory of front: got 1500 MB"),
        ({"recovered_s": None}, "afterwards: got 1 of 2 runs"),
        ({"load": [Seen("no reply", 120.0)]}, "the load itself: got 1 no reply"),
        ({"load": [Seen("closed", 1.0), Seen("413", 1.0)]}, "the load itself: got 1 closed;"),
        ({"load": [Seen("UNAVAILABLE", 1.0), Seen("INVALID_ARGUMENT", 1.0)]}, "the load itself: got 1 UNAVAILABLE;"),
        ({"load": [Seen("500", 1.0), Seen("503 without Retry-After", 1)]}, "got 1 500, 1 503 without"),
        ({"log_bytes": LOG_BYTES + 1}, "logs without an end"),
        ({"pings": [(70.0, 0)], "answers": [answer(at_s=1.0)]}, "make ping: got READY 1 times"),
    ],
)
def test_each_claim_can_fail(changes: dict[str, object], says: str) -> None:
    found = failures(of(run(), run(**changes)))
    assert len(found) == 1
    assert says in found[0]


def test_held_connections_must_be_closed_and_need_no_reply() -> None:
    held = run(load=[Seen("closed", 31.0), Seen("no reply", 1.0)])
    assert failures(of(held, ends="closed")) == []
    assert "1 left open" in failures(of(run(load=[Seen("left open", 75.0)]), ends="closed"))[0]


def test_a_deed_may_cost_its_worker_and_no_more() -> None:
    one = run(ended={"java": 0, "front": 0, "worker": 1})
    assert failures(of(one, one, workers_end=1)) == []
    assert "worker: got 4" in failures(of(*[run(ended={"java": 0, "front": 0, "worker": 2})] * 2, workers_end=1))[0]


def test_what_a_stopped_worker_has_may_wait_for_another_or_die_with_it() -> None:
    one = run(answers=[answer(taken_s=17), answer("507", 12), *[answer(patient=True)] * 20])
    stopped = of(one, workers_end=1)
    stopped.bare_limit_s = 30.0
    assert failures(stopped) == []
    stopped.bare_limit_s = 15.0
    assert "expected an answer or 503 with Retry-After in 15 s" in failures(stopped)[0]
    assert "1 507" in failures(of(one))[0]


def test_ping_may_say_ready_while_somebody_is_answered() -> None:
    seen = [answer(at_s=1.0), answer(at_s=50.0), answer("no reply", 30, at_s=70.0)]
    assert untrue_pings(seen, [(60.0, 0), (100.0, 0), (115.0, 1)]) == 0
    assert untrue_pings(seen, [(111.0, 0), (120.0, 0), (130.0, 1)]) == 2
    assert untrue_pings([*seen, answer(at_s=121.0)], [(111.0, 0), (112.0, 0), (120.0, 0)]) == 1


def test_the_table_shows_what_did_not_hold() -> None:
    good, bad = of(run()).plain(), of(run(ended={"java": 1})).plain()
    lines = load_table([good, bad]).splitlines()
    assert lines[2].endswith("| none | 700, 80, 420 | hold |")
    assert "| 1 java | 700, 80, 420 | java: got 1" in lines[3]
    assert json.loads(json.dumps(good)) == good


@pytest.mark.parametrize(
    ("status", "headers", "word"),
    [
        (200, {}, "answered"),
        (503, {"retry-after": "2"}, "503, retry after"),
        (503, {}, "503 without Retry-After"),
        (503, {"retry-after": "soon"}, "503 without Retry-After"),
        (413, {"retry-after": "2"}, "413"),
    ],
)
def test_words_of_http(status: int, headers: dict[str, str], word: str) -> None:
    assert http_word(status, headers) == word
    assert turned_away(word) == (word == "503, retry after")


def test_words_of_grpc() -> None:
    assert grpc_word("RESOURCE_EXHAUSTED", [("retry-after", "1")]) == "RESOURCE_EXHAUSTED, retry after"
    assert grpc_word("UNAVAILABLE", [("retry-after", b"1")]) == "UNAVAILABLE, retry after"
    assert grpc_word("UNAVAILABLE", []) == "UNAVAILABLE"
    assert grpc_word("INTERNAL", [("retry-after", "1")]) == "INTERNAL"
    _request, response = messages()
    assert message_word(response(prediction=b"PK\x03\x04" + bytes(99)).SerializeToString()) == "answered"
    refused = b'{"error": {"code": "too_large", "status": 413, "field": "image", "message": "got a"}}'
    assert message_word(response(prediction=refused).SerializeToString()) == "413"


@pytest.mark.parametrize("craft", bodies.CRAFTS)
def test_crafted_records_are_small_and_long(craft: bodies.Craft) -> None:
    record = encode(make_record(with_picture=False))
    made = bodies.crafted(record, craft, 20_000)
    assert len(made) < len(record) + 20_000
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        facts = json.loads(archive.read("record.json"))
    lists = (facts["queries"], facts["tokens"][0]["top"], facts.get("notes", []), facts["prompt"]["ids"])
    assert [len(one) == 20_000 for one in lists].count(True) == 1
    assert bodies.crafted(record, "queries", len(decode(record).facts.queries)) != b""


def test_bodies_hold_as_many_as_they_say() -> None:
    assert bodies.many_fields(1000).count(b"a&") == 500
    assert len(set(bodies.many_names(8000).split(b"&"))) == 1000
    assert bodies.many_parts(10).count(b"Content-Disposition") == 10
    assert len(json.loads(bodies.many_members(1200))) == 100
    request = messages().PredictionsRequest.FromString(bodies.many_keys("m", 300))
    assert (request.model_name, len(request.input)) == ("m", 300)
    assert 10_400_000 < len(bodies.large_picture()) <= 10 << 20


def test_every_load_says_how_many() -> None:
    assert all("{count}" in load.words for load in LOADS.values())


def test_figures_are_json_with_a_line_for_each_run(tmp_path: Path) -> None:
    rows = [of(run(), run()).plain(), {"fault": "another"}]
    _write(tmp_path / "loads.json", {"commit": "abc", "rows": rows})
    text = (tmp_path / "loads.json").read_text("utf-8")
    assert json.loads(text)["rows"] == json.loads(json.dumps(rows))
    assert sum("retry after" in line and '"answers"' in line for line in text.splitlines()) == 2


def test_loads_that_are_measured_one_by_one_come_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours of loads need not be one run: those that are not named keep their rows, in the table too."""
    figures, page = tmp_path / "loads.json", tmp_path / "operations.md"
    page.write_text(f"{LOADS_BEGIN}\n{LOADS_END}\n", "utf-8")
    found = {"commit": "old"}
    for name, value in {"LOAD_FIGURES": figures, "PAGE": page, "build": lambda model: None}.items():
        monkeypatch.setattr(drill, name, value)
    monkeypatch.setattr(drill, "good_cases", lambda *counts: [None])
    monkeypatch.setattr(drill, "commit", lambda: found["commit"])

    def pressed(chosen, case, given, note):
        rows = [{**of(run()).plain(), "name": name, "words": f"the load {name}"} for name in chosen]
        note(rows)
        return rows

    monkeypatch.setattr(drill, "pressed", pressed)
    for commit, names in (("old", ["idle", "large_json"]), ("new", ["large_json"])):
        found["commit"] = commit
        monkeypatch.setattr(sys, "argv", ["drill", *names, "--write"])
        drill.main()
    rows = drill.measured_before(figures)
    assert {name: row["commit"] for name, row in rows.items()} == {"large_json": "new", "idle": "old"}
    assert [line.split("|")[1].strip() for line in page.read_text("utf-8").splitlines()[3:-1]] == [
        "the load large_json",
        "the load idle",
    ]
