"""Streamed answers: every token with its maps, the record last, and a plain error for one that was cut off."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llava_server.answer.stream import StreamedToken as SentToken
from llava_server.answer.stream import line
from llava_viewer.client import Client, RecordError, RequestError, StreamedToken
from llava_viewer.client import retry as client_retry
from llava_viewer.client.transport.stream import read_stream
from llava_wire import Record, View
from support.replies import GrpcServer, HttpServer, Reply
from support.synthetic import make_picture, make_record

Connect = Callable[..., Client]
RECORD = make_record(words=("A", "\u2028red\n", " é🦊"), reductions=("layers_heads", "none"), with_picture=False)


def row(view: View, step: int) -> View:
    """One row of a view, as the server streams it."""
    return view.at(step)


LINES = [
    line(SentToken(t, token, {name: row(view, t) for name, view in RECORD.views.items()}))
    for t, token in enumerate(RECORD.tokens)
]
REPLY = b"".join([*LINES, line(RECORD)])


def check(parts: list[StreamedToken | Record]) -> None:
    """The parts are those of the record."""
    *tokens, last = parts
    assert isinstance(last, Record)
    assert last.facts == RECORD.facts
    assert len(tokens) == len(RECORD.tokens)
    for t, part in enumerate(tokens):
        assert isinstance(part, StreamedToken)
        assert (part.step, part.token) == (t, RECORD.tokens[t])
        for name, view in RECORD.views.items():
            np.testing.assert_array_equal(part.maps[name], view.maps_float()[t])
            np.testing.assert_allclose(part.shares[name], view.shares[t], atol=1e-7)


@pytest.mark.parametrize("size", [1, 7, 100, 10**6])
def test_lines_cut_anywhere(size: int) -> None:
    check(list(read_stream(REPLY[start : start + size] for start in range(0, len(REPLY), size))))


@pytest.mark.parametrize("kept", [0, 1, len(LINES[0]), len(LINES[0]) + 5, len(REPLY) - 1, len(REPLY) - 100])
def test_a_stream_that_is_cut_off_says_so(kept: int) -> None:
    parts = read_stream([REPLY[:kept]])
    for _ in range(REPLY[:kept].count(b"\n")):
        assert isinstance(next(parts), StreamedToken)
    with pytest.raises(RequestError, match=r"broke off \(\d tokens and no record\)") as caught:
        next(parts)
    assert caught.value.code == "unavailable"


def test_an_error_may_be_the_last_line() -> None:
    late = RequestError("deadline", "options.deadline_ms", "got 5 ms, expected more; wait")
    parts = read_stream([LINES[0], line(late)])
    assert isinstance(next(parts), StreamedToken)
    with pytest.raises(RequestError, match="got 5 ms") as caught:
        next(parts)
    assert caught.value.code == "deadline"


def changed(**view: Any) -> bytes:
    """The first line with something else in its first view."""
    content = json.loads(LINES[0])
    next(iter(content["views"].values())).update(view)
    return json.dumps(content).encode() + b"\n"


@pytest.mark.parametrize(
    "bad",
    [
        b"\n", b"[]\n", b"7\n", b"{}\n", b"<html>\n", b"[" * 100_000 + b"\n", LINES[1], b'{"type": "token"}\n',
        b'{"type": "record", "npz_base64": "!"}\n', b'{"type": "record", "npz_base64": "aGVsbG8="}\n',
        b'{"type": "token", "step": 0, "token": {}, "views": {}}\n',
        b'{"type": "token", "step": 0, "token": {}, "views": []}\n',
        changed(dtype="|O"), changed(dtype=[1]), changed(shape=[-1, 3]), changed(shape="x"), changed(maps_base64="!"),
        changed(maps_base64=base64.b64encode(bytes(3)).decode()), changed(scales=[[1], [1, 2]]),
        changed(scales=[1.0, 2.0, 3.0, 4.0, 5.0]), changed(shares="x"),
    ],
)  # fmt: skip
def test_lines_that_are_none_of_a_stream(bad: bytes) -> None:
    with pytest.raises(RecordError):
        list(read_stream([bad]))


def test_the_client_asks_for_a_stream_and_adds_the_picture(http_server: HttpServer, connect: Connect, tmp_path) -> None:
    http_server.reply = Reply(REPLY)
    path = tmp_path / "x.png"
    make_picture(60, 40).save(path)
    parts = list(connect(http_server).stream(path, "what?", {"layers": [0]}, seed=2))
    check(parts)
    assert isinstance(parts[-1], Record)
    assert parts[-1].picture is not None
    assert http_server.seen[0].options == {"layers": [0], "seed": 2, "stream": True}


def test_a_stream_that_a_proxy_compressed(http_server: HttpServer, connect: Connect) -> None:
    http_server.reply = Reply(gzip.compress(REPLY), encoding="gzip")
    check(list(connect(http_server).stream(b"image", "what?", keep_picture=False)))


def test_a_refusal_in_place_of_a_stream(http_server: HttpServer, connect: Connect) -> None:
    refusal = RequestError("invalid", "options.stream", "got true, expected false")
    http_server.reply = Reply(json.dumps(refusal.to_body()).encode(), status=422)
    with pytest.raises(RequestError, match=r"options\.stream: got true"):
        next(connect(http_server).stream(b"image", "what?"))


def test_a_connection_that_is_lost_in_a_stream(http_server: HttpServer, connect: Connect) -> None:
    http_server.reply = Reply(b"".join(LINES[:2]), lost_bytes=100)
    parts = connect(http_server, retry_s=30).stream(b"image", "what?", keep_picture=False)
    assert isinstance(next(parts), StreamedToken)
    assert isinstance(next(parts), StreamedToken)
    with pytest.raises(RequestError, match="broke off"):
        next(parts)
    # Tokens were given out already: another attempt would begin again.
    assert len(http_server.seen) == 1


def test_what_fails_before_the_first_token_is_sent_again(
    http_server: HttpServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_retry, "time", type("Time", (), {"sleep": staticmethod(lambda pause_s: None)}))
    http_server.first = [Reply(b"{}", status=502), Reply(b"", lost_bytes=10)]
    http_server.reply = Reply(REPLY)
    check(list(connect(http_server, retry_s=30).stream(b"image", "what?", keep_picture=False)))
    assert len(http_server.seen) == 3


def test_over_grpc_it_is_refused_and_nothing_is_sent(grpc_server: GrpcServer, connect: Connect) -> None:
    with pytest.raises(RequestError, match=r"options\.stream: got true over gRPC"):
        next(connect(grpc_server).stream(b"image", "what?"))
    assert grpc_server.seen == []


def test_predict_refuses_what_only_stream_can_read(http_server: HttpServer, connect: Connect) -> None:
    with pytest.raises(RequestError, match=r"options\.stream: got true.*call stream"):
        connect(http_server).predict(b"image", "what?", stream=True)
    assert http_server.seen == []
