"""A short run of `make fuzz` against the session's server, and shots that once found something."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

from llava_wire import encode
from stress.crowding.messages import message
from stress.fuzz import fuzz
from stress.fuzzing.judge import judge
from stress.fuzzing.senders import Reply, Sender
from stress.fuzzing.shots import WAYS, Shot, ShotMaker
from support.asking import MODEL, Asker
from support.synthetic import make_record

pytestmark = pytest.mark.serve


def test_strangers_get_answers_or_refusals_and_harm_nobody(asker: Asker) -> None:
    figures = fuzz(asker.state, seed=7, first=0, count=400, threads=8, every=20)
    assert figures["what"] == []
    assert (figures["faults"], figures["hung"], figures["worker_deaths"]) == (0, 0, 0)
    assert figures["same_workers"]
    assert figures["outcomes"]["good"] == {"right": 20}
    ways = set(figures["outcomes"]) - {"good"}
    assert ways == set(WAYS)
    assert sum(sum(counts.values()) for way, counts in figures["outcomes"].items() if way in ways) == 400


def test_a_name_that_utf8_cannot_hold(asker: Asker) -> None:
    """Its refusal could not be encoded, and the whole batch was lost with it."""
    error = asker.grpc_map({"image": b"x", "prompt": b"What?", "options": b'{"\\ud800": 1}'}).error
    assert (error["status"], error["field"]) == (422, "options.\\ud800")


def test_no_log_carries_control_characters_of_strangers(asker: Asker, picture: bytes) -> None:
    odd = "\x1b[31mred\x07\x9b\r2026 forged\u2028"
    asker.form(picture, odd, {odd: 1})
    asker.grpc_map({odd: b"1", "image": picture})
    host, port = asker.state.http.removeprefix("http://").rsplit(":", 1)
    key = asker.auth()["Authorization"].encode()
    for path in (b"/predictions/\x1b[31m", b"/\x1b]0;x\x07", b"/predictions/a\x0bb?\x7f"):
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(b"POST " + path + b" HTTP/1.1\r\nAuthorization: " + key)
            connection.sendall(b"\r\nX-A: \x1b[31m\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            connection.recv(100)
    for path in [*Path(asker.state.logs).glob("*.log"), Path(asker.state.logs) / "requests.jsonl"]:
        text = path.read_bytes().decode("utf-8", "replace")
        found = re.search("[^\n]*[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029][^\n]*", text)
        assert found is None, (path.name, found)


def test_a_shot_is_the_same_every_time() -> None:
    record = encode(make_record(with_picture=False))
    first, second = (ShotMaker(3, MODEL, record) for _ in range(2))
    for number in range(300):
        assert first.shot(number) == second.shot(number)
    assert len({first.shot(number).body for number in range(300)}) > 200


FORM = Shot(0, "form", f"/predictions/{MODEL}", b"")
INSIDE = {"code": "internal", "status": 500}
ERROR = {"error": {"code": "invalid", "status": 422, "field": "image", "message": "got a, expected b"}}
BUSY = {"error": {"code": "overloaded", "status": 503, "field": "server", "message": "got a, expected b"}}


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(422, "application/json", json.dumps(ERROR).encode()), ""),
        (Reply(200, "application/json", json.dumps(ERROR).encode()), "got HTTP status 200"),
        (
            Reply(500, "", json.dumps({"error": {**ERROR["error"], **INSIDE}}).encode()),
            "inside",
        ),
        (Reply(422, "", json.dumps({"error": {**ERROR["error"], "message": "no"}}).encode()), "printable line"),
        (Reply(422, "", b'{"error": {"code": "invalid"}}'), "expected the error form"),
        (Reply(200, "", b"PK\x03\x04"), "expected a record"),
        (Reply(200, "", b"hello"), "expected a record"),
        (Reply(200, "", b'{"type":"token"}\n{"type":"token"}\n'), "a last line of type token"),
        (Reply(503, "", b'{"code": 503, "type": "InternalServerException", "message": "Prediction failed"}'), "a row"),
        (Reply(500, "", b'{"code": 500, "type": "InternalServerException", "message": "Worker died."}'), "a row"),
        (Reply(404, "", b'{"code": 404, "type": "ModelNotFoundException", "message": "x"}'), ""),
        (Reply(0, "", b"", "closed"), "ended without a reply"),
        (Reply(0, "", b"", "hung"), "no reply in time"),
        (Reply(503, "", json.dumps(BUSY).encode(), again="2"), ""),
        (Reply(503, "", json.dumps(BUSY).encode()), "got Retry-After ''"),
    ],
)
def test_the_judge_knows_a_fault(reply: Reply, says: str) -> None:
    fault = judge(FORM, reply).fault
    assert says in fault
    assert bool(fault) == bool(says)


def test_a_hang_is_noticed(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stress.fuzzing.senders.TIMEOUT_S", 0.0001)
    sender = Sender(asker.state)
    parts = [("image", b"x"), ("prompt", b"x")]
    method = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
    reply = sender.send(Shot(0, "grpc", method, message(MODEL, parts)))
    sender.close()
    assert judge(FORM, reply).outcome == "hung"
