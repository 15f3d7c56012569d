"""How long and how much a request may take: what it can bring, what a full server asks for, and how it connects."""

from __future__ import annotations

import base64
import email.utils
import gzip
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from llava_viewer.cli import main
from llava_viewer.client import Client, RequestError, ServerUnreachable
from llava_viewer.client import retry as client_retry
from llava_viewer.client.errors import ServerBusy
from llava_viewer.client.retry import Patience
from llava_viewer.client.sizes import reply_bytes
from llava_viewer.client.transport.form import unpacked
from llava_viewer.client.waiting import seconds_named
from llava_wire import encode
from support.replies import GrpcServer, HttpServer, Reply
from support.synthetic import make_record

Server = HttpServer | GrpcServer
Connect = Callable[..., Client]
RECORD = make_record(words=("A",), reductions=("layers_heads",), with_picture=False)
MOST = 40 << 20


@pytest.mark.parametrize(
    ("options", "mib"),
    [
        ({}, 40),  # the model's default views may be any
        ({"layers": "all", "heads": "all", "reduction": "none"}, 40),
        ({"layers": "all", "heads": "all"}, 16),  # one mean map per token, in JSON
        ({"layers": "all", "heads": "all", "format": "npz"}, 4),
        ({"layers": "all", "heads": "all", "format": "npz", "precision": "float32"}, 16),
        ({"layers": "all", "heads": "all", "format": "npz", "max_new_tokens": 256}, 16),
        ({"layers": "all", "heads": "all", "format": "npz", "precision": "blocks"}, 16),
        ({"layers": "all", "heads": "all", "format": "npz", "num_return_sequences": 4}, 16),
        ({"heads": [[0, 1], [2, 3]], "reduction": "none", "format": "npz", "max_new_tokens": 8}, 4),
        ({"layers": [0, 1, 2, 3], "heads": [0, 1, 2, 3], "reduction": "none", "format": "npz"}, 40),
        ({"layers": [0, 1, 2, 3], "heads": "all", "reduction": "heads", "steps": [0], "format": "npz"}, 4),
        ({"layers": "all", "heads": "all", "rows": "both", "format": "npz"}, 40),
        ({"views": [{"name": "a", "heads": [[0, 0]]}, {"name": "b", "layers": [1]}], "format": "npz"}, 16),
        ({"views": [{"name": "a", "layers": [0], "method": "text_attention"}], "format": "npz"}, 40),
        ({"views": [{"name": "a", "layers": [0], "method": "value_norm"}], "format": "npz"}, 4),
        ({"views": 3}, 40),
        ({"views": [3]}, 40),
        ({"layers": [0], "max_new_tokens": "many"}, 40),
        ({"layers": [0], "max_new_tokens": True}, 40),
        ({"layers": [0], "max_new_tokens": 10**30}, 40),
    ],
)
def test_what_a_request_can_bring(options: dict[str, Any], mib: int) -> None:
    assert reply_bytes(options, 4000, MOST) == mib << 20
    assert reply_bytes(options, 4000, 1 << 20) == 1 << 20


def test_the_reply_to_a_replay_is_bounded_by_its_answer() -> None:
    options = {"layers": [0], "format": "npz"}
    assert reply_bytes(options, 100, MOST, tokens=5) < reply_bytes(options, 100, MOST, tokens=500)


def test_more_than_a_request_can_bring_is_not_read(server: Server, connect: Connect) -> None:
    server.reply = Reply(bytes(5 << 20))
    client = connect(server)
    with pytest.raises(RequestError, match=r"got a reply of more than 4194304 bytes.*--max-reply") as caught:
        client.predict(b"image", "what?", layers="all", heads="all")
    assert caught.value.code == "too_large"
    assert client.predict_bytes(b"image", "what?") == server.reply.body


@pytest.mark.parametrize("piece_bytes", [1, 7, 1 << 20])
def test_packed_bodies_come_out_whole_and_no_larger_than_allowed(piece_bytes: int) -> None:
    body = bytes(range(256)) * 20_000
    data = gzip.compress(body, 1)
    pieces = [data[start : start + piece_bytes] for start in range(0, len(data), piece_bytes)]
    assert b"".join(unpacked(pieces, "GZIP", len(body))) == body
    with pytest.raises(RequestError, match="more than 5119999 bytes"):
        list(unpacked(pieces, "gzip", len(body) - 1))
    with pytest.raises(RequestError, match="without an end"):
        list(unpacked(pieces[:-1] or [data[:-1]], "gzip", len(body)))
    with pytest.raises(RequestError, match="more behind the end"):
        list(unpacked([*pieces, b"x"], "gzip", len(body)))


def test_what_a_full_server_asks_for() -> None:
    assert seconds_named("3") == 3.0
    assert seconds_named(" 0.5 ") == 0.5
    later = seconds_named(email.utils.formatdate(time.time() + 100, usegmt=True))
    assert later is not None
    assert 90 < later <= 101
    assert seconds_named("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    for text in ("", "-1", "1e9", "nan", "inf", "١", "soon", "9" * 400, "Mon, 99 Xyz 2015 99:99:99 GMT", "GMT", "\xff"):
        assert seconds_named(text) is None, text


def busy(retry_after_s: float) -> ServerBusy:
    return ServerBusy("overloaded", "server", "got a full server", retry_after_s)


def test_a_full_server_is_left_alone_for_as_long_as_it_asks_and_no_longer_than_there_is() -> None:
    clock = [0.0]
    patience = Patience(30.0, 60.0, known=True, clock=lambda: clock[0])
    pauses = [patience.wait_s(busy(2.0)) for _ in range(20)]
    assert all(pause is not None and 2.0 <= pause <= 3.0 for pause in pauses)
    assert len(set(pauses)) > 10  # those that were refused together do not come back together
    clock[0] = 27.5
    last = patience.wait_s(busy(2.0))
    assert last is not None
    assert 2.0 <= last <= 2.45
    clock[0] = 28.5
    assert patience.wait_s(busy(2.0)) is None
    assert Patience(30.0, 60.0, known=True).wait_s(busy(1e9)) is None
    assert Patience(30.0, 1.0, known=True).wait_s(busy(1.0)) is None
    tiny = Patience(30.0, 60.0, known=True).wait_s(busy(1e-9))
    assert tiny is not None
    assert tiny >= 0.25


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_full_server_over_both_transports(
    code: grpc.StatusCode, server: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(client_retry, "time", type("Time", (), {"sleep": staticmethod(slept.append)}))
    server.first = [Reply(b"full", status=503, code=code, details="full", retry_after="2") for _ in range(9)]
    server.reply = Reply(encode(RECORD))
    # More often than an error that says nothing would be tried again.
    assert connect(server, retry_s=30).predict_bytes(b"image", "what?") == server.reply.body
    assert len(server.seen) == 10
    assert all(2.0 <= pause <= 3.0 for pause in slept)


def test_a_full_server_that_asks_for_more_than_there_is(server: Server, connect: Connect) -> None:
    full = grpc.StatusCode.RESOURCE_EXHAUSTED
    server.reply = Reply(b"full", status=503, code=full, details="full", retry_after="1000000000")
    with pytest.raises(RequestError, match=r"left alone for 1e\+09 s") as caught:
        connect(server, retry_s=30).predict_bytes(b"image", "what?")
    assert caught.value.code == "overloaded"
    assert len(server.seen) == 1


def test_patient_clients_get_through_beside_a_flood(http_server: HttpServer, connect: Connect) -> None:
    """A server with room for two, four senders that never give up, and twenty small requests that are patient."""
    room, stop = threading.Semaphore(2), threading.Event()
    full = Reply(b"full", status=503, retry_after="0.4")

    def next_reply() -> Reply:
        if not room.acquire(blocking=False):
            return full
        threading.Timer(0.02, room.release).start()
        return Reply(encode(RECORD), delay_s=0.02)

    def flood() -> None:
        client = connect(http_server)
        while not stop.is_set():
            try:
                client.predict_bytes(b"image", "what?")
            except RequestError:
                time.sleep(0.01)

    http_server.next_reply = next_reply  # type: ignore[method-assign]
    done: list[bool] = []

    def small() -> None:
        done.append(connect(http_server, retry_s=30).predict_bytes(b"image", "what?") == encode(RECORD))

    floods = [threading.Thread(target=flood) for _ in range(4)]
    small_ones = [threading.Thread(target=small) for _ in range(20)]
    for thread in (*floods, *small_ones):
        thread.start()
    for thread in small_ones:
        thread.join(40)
    stop.set()
    for thread in floods:
        thread.join()
    assert done.count(True) >= 19


def test_the_last_attempts_time_is_not_taken_for_the_whole(http_server: HttpServer, connect: Connect) -> None:
    http_server.first = [Reply(b"full", status=503, retry_after="0.3")]
    http_server.reply = Reply(b"", delay_s=2.0)
    with pytest.raises(RequestError, match=r"expected 0\.8 s.*an attempt before ended with got HTTP 503 \(full\)"):
        connect(http_server, timeout_s=0.8, retry_s=30).predict_bytes(b"image", "what?")


def test_a_name_that_is_never_resolved_costs_no_more_than_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asleep = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: asleep.wait(10) and [])
    begin = time.monotonic()
    with (
        Client.http("http://server.invalid", timeout_s=0.3) as client,
        pytest.raises(ServerUnreachable, match="within"),
    ):
        client.predict_bytes(b"image", "what?")
    assert time.monotonic() - begin < 5
    asleep.set()


def test_every_address_of_a_name_is_tried(http_server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(http_server.address.rpartition(":")[2])
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.9", "127.0.0.1")]
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **k: found if host == "two.test" else real(host, *a, **k)
    )
    http_server.reply = Reply(b"x")
    with Client.http(f"http://two.test:{port}") as client:
        assert client.predict_bytes(b"image", "what?") == b"x"
    assert http_server.seen[0].headers["host"] == f"two.test:{port}"
    with Client.http("http://" + "a" * 70 + ".test") as client, pytest.raises(ServerUnreachable):
        client.predict_bytes(b"image", "what?")


def test_a_proxy_of_the_environment_and_a_password_in_the_address(
    http_server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY", "LLAVA_GAZE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", http_server.address)
    http_server.reply = Reply(b"x")
    with Client.http("http://me:p%40ss@server.test/under/it") as client:
        assert client.predict_bytes(b"image", "what?") == b"x"
    (seen,) = http_server.seen
    assert seen.model == "http://server.test/under/it/predictions/llava-shapes"
    assert seen.headers["host"] == "server.test"
    assert seen.headers["authorization"] == "Basic " + base64.b64encode(b"me:p@ss").decode()
    monkeypatch.setenv("no_proxy", "server.test")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    with Client.http("http://server.test") as client, pytest.raises(ServerUnreachable, match="no address"):
        client.predict_bytes(b"image", "what?")


def test_only_the_handler_says_that_it_is_ready(server: Server, connect: Connect) -> None:
    client = connect(server)
    for body in (b"<html>hello", b"", b"[" * 100_000, b'{"status": "Healthy"}', b"[]", bytes(2 << 20)):
        server.reply = Reply(body)
        assert not client.ready(), body[:20]
    server.reply = Reply(b'{"status": "ready", "model": "m"}')
    assert client.ready()


def test_json_that_cannot_be_read_is_kept_as_it_came(
    http_server: HttpServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    for body in (b"[" * 100_000, b"7", b"[]", b'{"answer": 1e999}', b"\xff"):
        http_server.reply = Reply(body)
        out = tmp_path / "reply.json"
        asked = ["predict", str(tmp_path / "x.png"), "what?", "--url", http_server.address, "--format", "json"]
        assert main([*asked, "-o", str(out), "--force"]) == 0
        assert out.read_bytes() == body
        assert main(asked) == 0
    capsys.readouterr()


@pytest.mark.parametrize("option", [["--retry", "nan"], ["--retry", "-1"], ["--max-reply", "0"], ["--timeout", "inf"]])
def test_bounds_that_are_none(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["predict", "x.png", "what?", *option])
    assert caught.value.code == 2
    assert "expected" in capsys.readouterr().err
