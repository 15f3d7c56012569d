"""What the client sends, and what it makes of a good reply, over both transports."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from llava_viewer import annotated
from llava_viewer.client import Client, RecordError, RequestError
from llava_viewer.look.picture import prepare_picture
from llava_wire import decode, encode
from support.replies import GrpcServer, HttpServer, Reply
from support.synthetic import make_picture, make_record

Server = HttpServer | GrpcServer
Connect = Callable[..., Client]
RECORD = make_record(words=("A", " red"), reductions=("layers_heads",), with_picture=False)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture file."""
    path = tmp_path / "x.png"
    make_picture(60, 40).save(path)
    return path


def test_the_same_request_arrives_and_the_same_record_comes_back(
    server: Server, connect: Connect, picture: Path
) -> None:
    server.reply = Reply(encode(RECORD))
    prompt = 'Où?\r\n"--boundary" 🦊\n'
    record = connect(server, model="my/model").predict(picture, prompt, {"layers": [0], "seed": 1}, seed=2)
    assert encode(record) != encode(RECORD)
    assert record.picture is not None
    assert encode(record.with_picture(*record.picture)) == encode(RECORD.with_picture(*record.picture))
    (seen,) = server.seen
    assert seen.fields["image"] == picture.read_bytes()
    assert seen.fields["prompt"].decode() == prompt
    assert seen.options == {"layers": [0], "seed": 2, "format": "npz"}
    assert "authorization" not in seen.headers
    if isinstance(server, HttpServer):
        assert seen.model == "my%2Fmodel"
        assert seen.headers["accept"] == "application/octet-stream"
    else:
        assert seen.model == "my/model"


def test_bytes_serve_as_well_as_a_path_and_the_picture_may_stay_out(
    server: Server, connect: Connect, picture: Path
) -> None:
    server.reply = Reply(encode(RECORD))
    with connect(server) as client:
        assert encode(client.predict(picture.read_bytes(), "what?", keep_picture=False)) == encode(RECORD)
        assert client.predict_bytes(picture, "what?") == server.reply.body
    assert server.seen[0].fields["image"] == server.seen[1].fields["image"]


def test_a_picture_that_cannot_be_kept_does_not_cost_the_answer(server: Server, connect: Connect) -> None:
    server.reply = Reply(encode(RECORD))
    with pytest.warns(UserWarning, match="carries no image: image: got b.only the"):
        record = connect(server).predict(b"only the server can read this", "what?")
    assert record.answer == RECORD.answer
    assert record.picture is None


def test_json_comes_as_it_is(server: Server, connect: Connect) -> None:
    server.reply = Reply(b'{"answer": "red", "error": null}')
    assert connect(server).predict_bytes(b"image", "what?", format="json") == server.reply.body
    assert server.seen[0].options == {"format": "json"}
    if isinstance(server, HttpServer):
        assert server.seen[0].headers["accept"] == "application/json"


def test_predict_always_asks_for_a_record(server: Server, connect: Connect) -> None:
    server.reply = Reply(encode(RECORD))
    connect(server).predict(b"image", "what?", {"format": "json"}, keep_picture=False)
    assert server.seen[0].options["format"] == "npz"


def test_large_replies_and_requests_pass(server: Server, connect: Connect) -> None:
    server.reply = Reply(encode(RECORD.with_picture("picture.png", bytes(6 << 20))))
    record = connect(server).predict(bytes(7 << 20), "what?", keep_picture=False)
    assert record.picture is not None
    assert len(record.picture[1]) == 6 << 20


def test_a_reply_that_is_no_record_is_a_record_error(server: Server, connect: Connect) -> None:
    client = connect(server)
    for body, reason in [(b"<html>hello", "not_a_record"), (b"", "not_a_record"), (encode(RECORD)[:-9], "truncated")]:
        server.reply = Reply(body)
        with pytest.raises(RecordError) as caught:
            client.predict(b"image", "what?")
        assert caught.value.reason == reason


@pytest.mark.parametrize(("options", "field"), [({"seed": float("nan")}, "options"), ({"heads": {1, 2}}, "options")])
def test_options_that_json_cannot_hold_are_not_sent(
    options: dict[str, object], field: str, http_server: HttpServer, connect: Connect
) -> None:
    with pytest.raises(RequestError) as caught:
        connect(http_server).predict(b"image", "what?", options)
    assert (caught.value.code, caught.value.field) == ("invalid", field)
    with pytest.raises(RequestError, match="prompt: got a lone surrogate at character 1"):
        connect(http_server).predict(b"image", "a\ud800")
    assert http_server.seen == []


def test_a_missing_file_is_an_os_error(http_server: HttpServer, connect: Connect, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        connect(http_server).predict(tmp_path / "none.png", "what?")


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8080", "ftp://127.0.0.1", "http://", "http://[::1", "http://a:port", "http://a/?x=1", ""]
)
def test_odd_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"url: got .*, expected http://HOST:PORT"):
        Client.http(url)


@pytest.mark.parametrize("target", ["http://127.0.0.1:7070", "127.0.0.1", ":7070", "host:port", ""])
def test_odd_targets_are_refused(target: str) -> None:
    with pytest.raises(ValueError, match=r"target: got .*, expected HOST:PORT"):
        Client.grpc(target)


def test_ready_means_that_the_handler_speaks(server: Server, connect: Connect) -> None:
    client = connect(server)
    server.reply = Reply(b'{"status": "ready", "model": "m"}')
    assert client.ready()
    assert server.seen[0].fields == {"ready": b"1"}
    # An older server refuses the field, and has answered by that.
    refusal = RequestError("invalid", "ready", "got an unknown field, expected image and prompt").to_body()
    server.reply = Reply(json.dumps(refusal).encode(), status=422)
    assert client.ready()
    queue = 'Model "x" has no worker to serve inference request.'
    server.reply = Reply(queue.encode(), status=503, code=grpc.StatusCode.INTERNAL, details=queue)
    assert not client.ready()
    server.reply = Reply(b"", delay_s=1.0)
    assert not client.ready(timeout_s=0.2)
    words = "Model not found: x"
    server.reply = Reply(words.encode(), status=404, code=grpc.StatusCode.INTERNAL, details=words)
    with pytest.raises(RequestError, match="unknown model"):
        client.ready()


def test_a_replay_sends_the_answer_without_its_maps_and_the_picture_it_carries(
    server: Server, connect: Connect, picture: Path
) -> None:
    two = make_record(words=("A", " red"), reductions=("none", "layers_heads"), with_picture=False)
    record = replace(two, run={"request_id": "r"}, alternatives=(RECORD.without_run(),)).with_picture(
        *prepare_picture(picture.read_bytes())
    )
    server.reply = Reply(encode(RECORD))
    again = connect(server).replay(record, {"layers": "all"}, heads="all")
    (seen,) = server.seen
    assert set(seen.fields) == {"image", "record", "options"}
    assert seen.options == {"layers": "all", "heads": "all", "format": "npz"}
    sent = decode(seen.fields["record"])
    assert sent.facts == record.facts
    assert (len(sent.views), sent.run, sent.picture, sent.alternatives) == (1, {}, None, ())
    assert record.picture is not None
    assert seen.fields["image"] == record.picture[1]
    assert again.picture == record.picture


def test_a_replay_keeps_what_was_said_of_the_answer(server: Server, connect: Connect) -> None:
    server.reply = Reply(encode(RECORD))
    judged = annotated(RECORD, "A star.", tags=["shapes"])
    assert connect(server).replay(judged, {}).facts == judged.facts
    other = annotated(make_record(words=("Another",)), "A star.")
    assert connect(server).replay(other, {}).facts.annotations is None, "the server read other words"


def test_a_replay_without_any_picture_leaves_the_refusal_to_the_server(server: Server, connect: Connect) -> None:
    server.reply = Reply(encode(RECORD))
    again = connect(server).replay(RECORD, {})
    assert "image" not in server.seen[0].fields
    assert again.picture is None


@pytest.mark.parametrize("status", [200, 503])
def test_a_reply_that_drips_in_ends_with_the_time(http_server: HttpServer, connect: Connect, status: int) -> None:
    http_server.reply = Reply(bytes(40), status=status, drip_s=0.1)
    with pytest.raises(RequestError, match=r"timeout_s: got no answer, expected 0\.3 s"):
        connect(http_server, timeout_s=0.3).predict(b"image", "what?")
