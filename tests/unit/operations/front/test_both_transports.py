"""The front's own process before made-up servers over HTTP and gRPC: what it lets through, and what it never does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from llava_viewer.client import Client, RequestError
from llava_viewer.client.transport.messages import PREDICTIONS, messages
from llava_wire import encode
from llava_wire.system.inner import KEY_HEADER, PROBE_HEADER
from servekit.front.settings import FrontSettings
from support.fronts import ALICE, LIMITS, running, settings_for
from support.replies import GrpcServer, HttpServer, Reply
from support.synthetic import make_record

RECORD = make_record(words=("A", " red"), reductions=("layers_heads",), with_picture=False)


@pytest.fixture(scope="module")
def behind() -> Iterator[tuple[HttpServer, GrpcServer]]:
    """What stands behind the front."""
    with HttpServer() as http, GrpcServer() as grpc_:
        yield http, grpc_


@pytest.fixture
def http_server(behind: tuple[HttpServer, GrpcServer]) -> HttpServer:
    """Over HTTP."""
    behind[0].seen.clear()
    return behind[0]


@pytest.fixture
def grpc_server(behind: tuple[HttpServer, GrpcServer]) -> GrpcServer:
    """Over gRPC."""
    behind[1].seen.clear()
    return behind[1]


@pytest.fixture(scope="module")
def front(behind: tuple[HttpServer, GrpcServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontSettings]:
    """The front."""
    folder = tmp_path_factory.mktemp("front")
    with running(settings_for(folder, *(int(one.address.rpartition(":")[2]) for one in behind)), folder) as settings:
        yield settings


def over_http(front: FrontSettings, token: str = ALICE) -> Client:
    return Client.http(f"http://127.0.0.1:{front.http}", token=token, retry_s=0)


def over_grpc(front: FrontSettings, token: str = ALICE) -> Client:
    return Client.grpc(f"127.0.0.1:{front.grpc}", token=token, retry_s=0)


def test_requests_pass_with_the_inner_key_and_the_name(
    front: FrontSettings, http_server: HttpServer, grpc_server: GrpcServer
) -> None:
    large = encode(RECORD.with_picture("picture.png", bytes(6 << 20)))
    for server, client in ((http_server, over_http(front)), (grpc_server, over_grpc(front))):
        with client:
            server.reply = Reply(large)
            for picture in (b"image", bytes(7 << 20)):
                assert client.predict(picture, "what?", keep_picture=False).answer == RECORD.answer
                assert server.seen[-1].fields["image"] == picture
                assert server.seen[-1].headers["authorization"] == "Bearer inner"
            # The other keys of a request are what they were.
            assert server.seen[-1].fields["prompt"] == b"what?"
            name = server.seen[-1].headers.get(KEY_HEADER) or server.seen[-1].fields[KEY_HEADER].decode()
            assert name == "alice"


def test_errors_pass_as_they_are(front: FrontSettings, http_server: HttpServer, grpc_server: GrpcServer) -> None:
    words = 'Model "x" has no worker to serve inference request.'
    reply = Reply(words.encode(), status=503, code=grpc.StatusCode.INTERNAL, details=words)
    http_server.reply = grpc_server.reply = reply
    for client in (over_http(front), over_grpc(front)):
        with client, pytest.raises(RequestError) as caught:
            client.predict(b"image", "what?")
        assert caught.value.code == "overloaded"
    answer = httpx.post(
        f"http://127.0.0.1:{front.http}/predictions/m", content=b"x", headers={"Authorization": f"Bearer {ALICE}"}
    )
    assert (answer.status_code, answer.headers["retry-after"], answer.text) == (503, "2", words)


@pytest.mark.parametrize(
    ("code", "details", "passed", "again"),
    [
        (grpc.StatusCode.INTERNAL, 'Model "x" has no worker to serve inference request.', "UNAVAILABLE", "2"),
        (grpc.StatusCode.UNAVAILABLE, "Prediction failed", "UNAVAILABLE", "2"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Worker died.", "RESOURCE_EXHAUSTED", None),
        (grpc.StatusCode.INTERNAL, "Worker died.", "INTERNAL", None),
    ],
)
def test_what_is_503_over_http_says_when_to_come_again_over_grpc_too(
    front: FrontSettings, grpc_server: GrpcServer, code: grpc.StatusCode, details: str, passed: str, again: str | None
) -> None:
    grpc_server.reply = Reply(code=code, details=details)
    message = messages().PredictionsRequest(model_name="m", input={"image": b"x"}).SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{front.grpc}") as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(PREDICTIONS)(message, metadata=(("authorization", f"Bearer {ALICE}"),), timeout=20)
    assert (caught.value.code().name, caught.value.details()) == (passed, details)
    assert dict(caught.value.trailing_metadata()).get("retry-after") == again


def test_nothing_passes_without_a_key(front: FrontSettings, http_server: HttpServer, grpc_server: GrpcServer) -> None:
    for client in (over_http(front, "wrong-key-wrong-key"), over_grpc(front, "wrong-key-wrong-key")):
        with client, pytest.raises(RequestError) as caught:
            client.predict(bytes(12 << 20), "what?")
        assert (caught.value.code, caught.value.field) == ("unauthorized", "token")
    assert http_server.seen == grpc_server.seen == []


def test_connections_are_kept_and_the_inner_key_stays_inside(front: FrontSettings, http_server: HttpServer) -> None:
    http_server.reply = Reply(b"{}")
    url = f"http://127.0.0.1:{front.http}/predictions/m"
    headers = {"Authorization": f"Bearer {ALICE}"}
    with httpx.Client(headers=headers) as client:
        for _ in range(3):
            answer = client.post(url, content=b"x")
            assert (answer.status_code, answer.headers.get("connection")) == (200, None)
            assert b"inner" not in answer.content + repr(answer.headers).encode()
        assert len(client._transport._pool.connections) == 1  # type: ignore[attr-defined]
    # In chunks.
    assert httpx.post(url, content=iter([b"x", b"y"]), headers=headers).status_code == 200
    # Names, probes and keys that a client sends along do not go through.
    sent = {**headers, KEY_HEADER: "root", PROBE_HEADER: "1", "Connection": "keep-alive, authorization"}
    assert httpx.post(url, content=b"x", headers=sent).status_code == 200
    seen = http_server.seen[-1].headers
    assert (seen[KEY_HEADER], seen["authorization"]) == ("alice", "Bearer inner")
    assert "connection" not in seen
    assert PROBE_HEADER not in seen


def test_grpc_messages_carry_the_name_of_their_key_alone(front: FrontSettings, grpc_server: GrpcServer) -> None:
    """Also when the client leaves a field open, into which something appended would fall."""
    fields = {"image": b"x", KEY_HEADER: b"bob", PROBE_HEADER: b"1"}
    own = messages().PredictionsRequest(model_name="m", input=fields).SerializeToString()
    metadata = (("authorization", f"Bearer {ALICE}"),)
    grpc_server.reply = Reply(b"answer")
    with grpc.insecure_channel(f"127.0.0.1:{front.grpc}") as channel:
        call = channel.unary_unary(PREDICTIONS)
        # A field that nobody knows, whole.
        for message in (own, own + b"\x7a\x03abc"):
            call(message, metadata=metadata, timeout=30)
            assert grpc_server.seen[-1].fields == {"image": b"x", KEY_HEADER: b"alice"}
        seen = len(grpc_server.seen)
        for damaged in (b"\x7a\x29", b"\x1a", b"\xff\xff\xff", b"\x0a\x02\xff\xff", b"\x7b" * 40_000):
            with pytest.raises(grpc.RpcError) as refused:
                call(own + damaged, metadata=metadata, timeout=30)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        many = messages().PredictionsRequest(model_name="m", input={str(n): b"" for n in range(100_000)})
        with pytest.raises(grpc.RpcError) as refused:
            call(many.SerializeToString(), metadata=metadata, timeout=30)
        assert "more than 64 inputs" in str(refused.value.details())
        # Two keys, as over HTTP, are none.
        with pytest.raises(grpc.RpcError) as refused:
            call(own, metadata=(("authorization", "Bearer wrong"), *metadata), timeout=30)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert len(grpc_server.seen) == seen


def test_messages_of_refused_calls_are_let_go(tmp_path: Path) -> None:
    """Of 60 calls at once with 900 MB in all, for which there is no room; looked at when all have ended."""
    message = messages().PredictionsRequest(model_name="m", input={"image": bytes(15 << 20)}).SerializeToString()
    with running(settings_for(tmp_path, 1, limits=replace(LIMITS, held_bytes=20 << 20)), tmp_path) as front:
        [listener] = [one for one in psutil.net_connections() if (one.laddr.port, one.status) == (front.grpc, "LISTEN")]
        process = psutil.Process(listener.pid)
        before = process.memory_info().rss
        with grpc.insecure_channel(f"127.0.0.1:{front.grpc}") as channel:
            call = channel.unary_unary(PREDICTIONS)
            metadata = (("authorization", f"Bearer {ALICE}"),)
            for refused in [call.future(message, metadata=metadata, timeout=60) for _ in range(60)]:
                assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert process.memory_info().rss - before < 600 << 20


def test_while_a_server_stops_nothing_is_let_in(
    front: FrontSettings, http_server: HttpServer, grpc_server: GrpcServer
) -> None:
    drain = Path(front.duty) / "drain.json"
    drain.write_text("{}")
    try:
        for client in (over_http(front), over_grpc(front)):
            with client, pytest.raises(RequestError) as caught:
                client.predict(b"image", "what?")
            assert caught.value.code == "unavailable"
    finally:
        drain.unlink()
    assert http_server.seen == grpc_server.seen == []


def test_a_server_that_is_gone_is_unavailable(front: FrontSettings, behind: tuple[HttpServer, GrpcServer]) -> None:
    """Last of this module: what stands behind the front ends."""
    for server in behind:
        server.__exit__(None, None, None)
    for client in (over_http(front), over_grpc(front)):
        with client, pytest.raises(RequestError) as caught:
            client.predict(b"image", "what?")
        assert caught.value.code == "unavailable"
