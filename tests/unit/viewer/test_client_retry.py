"""What the client sends again, how long it waits, and when it stops, over both transports."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest

from llava_viewer.client import Client, RequestError, ServerUnreachable
from llava_viewer.client import retry as client_retry
from llava_viewer.client.retry import Patience
from llava_wire import encode
from support.replies import GrpcServer, HttpServer, Reply
from support.synthetic import make_record

Server = HttpServer | GrpcServer
Connect = Callable[..., Client]
RECORD = encode(make_record(words=("A",), reductions=("layers_heads",), with_picture=False))
FULL = 'Model "x" has no worker to serve inference request.'
DIED = "Worker died."


def refusal(words: str, status: int) -> Reply:
    """TorchServe's own refusal, as either transport has it."""
    body = json.dumps({"code": status, "type": "X", "message": words}).encode()
    return Reply(body, status=status, code=grpc.StatusCode.INTERNAL, details=words)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for; none of them is waited."""
    pauses: list[float] = []
    monkeypatch.setattr(client_retry, "time", SimpleNamespace(sleep=pauses.append))
    return pauses


def test_overload_and_a_dead_worker_are_asked_again(server: Server, connect: Connect, slept: list[float]) -> None:
    server.first = [refusal(FULL, 503), refusal(FULL, 503), refusal(DIED, 507)]
    server.reply = Reply(RECORD)
    assert connect(server, retry_s=30).predict_bytes(b"image", "what?") == RECORD
    assert len(server.seen) == 4
    assert {tuple(seen.fields.items()) for seen in server.seen} == {tuple(server.seen[0].fields.items())}
    assert [0.5 * 0.25 * 2**i <= pause <= 0.25 * 2**i for i, pause in enumerate(slept)] == [True] * 3


@pytest.mark.parametrize("code", ["invalid", "too_large", "unauthorized", "internal", "deadline", "does_not_fit"])
def test_what_would_be_refused_again_is_sent_once(
    code: str, server: Server, connect: Connect, slept: list[float]
) -> None:
    error = RequestError(code, "options", "got 1, expected 2; take it")
    server.reply = Reply(json.dumps(error.to_body()).encode(), status=error.status)
    with pytest.raises(RequestError) as caught:
        connect(server, retry_s=30).predict_bytes(b"image", "what?")
    assert caught.value.code == code
    assert len(server.seen) == 1


def test_a_request_that_kills_every_worker_is_not_sent_for_ever(
    server: Server, connect: Connect, slept: list[float]
) -> None:
    server.reply = refusal(DIED, 507)
    with pytest.raises(RequestError, match="worker that died"):
        connect(server, retry_s=1000).predict_bytes(b"image", "what?")
    assert len(server.seen) == 3


def test_no_repetition_when_it_is_turned_off(server: Server, connect: Connect) -> None:
    server.reply = refusal(FULL, 503)
    with pytest.raises(RequestError) as caught:
        connect(server, retry_s=0).predict_bytes(b"image", "what?")
    assert caught.value.code == "overloaded"
    assert len(server.seen) == 1


def test_a_lost_connection_is_tried_again_only_where_a_server_was(http_server: HttpServer, slept: list[float]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with Client.http(nowhere, retry_s=30) as client, pytest.raises(ServerUnreachable):
            client.predict_bytes(b"image", "what?")
    assert slept == []
    http_server.reply = Reply(RECORD)
    http_server.first = [Reply(RECORD), Reply(lost_bytes=-1)]
    with Client.http(http_server.address, retry_s=30) as client:
        client.predict_bytes(b"image", "first")
        assert client.predict_bytes(b"image", "second") == RECORD
    assert len(slept) == 1


class Clock:
    """Seconds that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_budget_for_all_attempts() -> None:
    clock = Clock()
    patience = Patience(30.0, 60.0, known=True, clock=clock)
    assert patience.left_s == 60.0
    full = RequestError("overloaded", "server", "got a full queue")
    pauses = []
    while (pause := patience.wait_s(full)) is not None:
        pauses.append(pause)
        clock.now += pause + 0.5
    assert clock.now - 100.0 <= 30.5 + 0.5
    assert max(pauses) <= 8.0
    assert 5 <= len(pauses) <= 12
    assert patience.left_s == pytest.approx(160.0 - clock.now, abs=0.01)


def test_the_request_as_a_whole_ends_at_its_timeout() -> None:
    clock = Clock()
    patience = Patience(30.0, 2.0, known=True, clock=clock)
    clock.now += 1.9
    assert patience.wait_s(RequestError("overloaded", "server", "got a full queue")) is None


def test_an_unknown_server_that_refuses_the_connection_is_told_at_once() -> None:
    error = ServerUnreachable("127.0.0.1:1", "refused")
    assert Patience(30.0, 60.0, known=False).wait_s(error) is None
    assert Patience(30.0, 60.0, known=True).wait_s(error) is not None


def test_a_key_that_was_renewed_or_is_not_there_yet(
    server: Server, connect: Connect, slept: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key_file.json"
    path.write_text('{"inference": {"key": "old"}}')
    server.reply = Reply(RECORD)
    client = connect(server, retry_s=30, token=path)
    client.predict_bytes(b"image", "first")
    words = "Token Authorization failed. Token either incorrect, expired, or not provided correctly"
    body = json.dumps({"code": 400, "type": "InvalidKeyException", "message": words}).encode()
    server.first = [Reply(body, status=400, code=grpc.StatusCode.PERMISSION_DENIED, details=words)]
    assert client.predict_bytes(b"image", "renewed meanwhile") == RECORD
    path.unlink()
    waits = iter([None, None, '{"inference": {"key": "new"}}'])

    def sleep(pause_s: float) -> None:
        content = next(waits)
        if content:
            path.write_text(content)

    monkeypatch.setattr(client_retry, "time", SimpleNamespace(sleep=sleep))
    assert client.predict_bytes(b"image", "restarted") == RECORD
    assert server.seen[-1].headers["authorization"] == "Bearer new"
    server.reply = Reply(body, status=400, code=grpc.StatusCode.PERMISSION_DENIED, details=words)
    sent = len(server.seen)
    waits = iter([None] * 9)
    with pytest.raises(RequestError, match="expired key"):
        client.predict_bytes(b"image", "never valid again")
    assert len(server.seen) == sent + 2
