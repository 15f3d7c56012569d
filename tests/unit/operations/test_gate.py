"""The gate of named keys before made-up servers: what it lets through, byte for byte, and what it never does."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import NamedTuple

import grpc
import httpx
import pytest
from servekit.gate import NAME_FIELD, NAME_HEADER
from servekit.gatekeeper import Gatekeeper, GateSettings
from servekit.ports import _free_ports

from llava_viewer.client import Client, RequestError
from llava_wire import encode
from support.replies import GrpcServer, HttpServer, Reply
from support.synthetic import make_record

RECORD = make_record(words=("A", " red"), reductions=("layers_heads",), with_picture=False)
ALICE = "alice-key-0123456789"


class Place(NamedTuple):
    """What a gatekeeper needs of a server's state."""

    scratch: str
    logs: str


@pytest.fixture(scope="module")
def behind() -> Iterator[tuple[HttpServer, GrpcServer]]:
    """What stands behind the gate."""
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
def gate(behind: tuple[HttpServer, GrpcServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[GateSettings]:
    """The gate's own process."""
    folder = tmp_path_factory.mktemp("gate")
    keys, own = folder / "keys.yaml", folder / "key_file.json"
    keys.write_text(f"keys: {{alice: {ALICE}}}", "utf-8")
    keys.chmod(0o600)
    own.write_text(json.dumps({"inference": {"key": "inner"}}), "utf-8")
    inner = (int(one.address.rpartition(":")[2]) for one in behind)
    settings = GateSettings(
        "127.0.0.1", *_free_ports("127.0.0.1", 2), *inner, str(keys), str(own), "", "", most_bytes=20 << 20
    )
    keeper = Gatekeeper(settings, Place(str(folder), str(folder)))  # type: ignore[arg-type]
    end = time.monotonic() + 60
    while not (_listens(settings.http) and _listens(settings.grpc)):
        assert time.monotonic() < end, (folder / "gate.log").read_text("utf-8")
        time.sleep(0.05)
    yield settings
    keeper._process.kill()
    keeper._process.wait(timeout=10)
    assert (folder / "gate.log").read_text("utf-8") == ""


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_requests_pass_with_the_inner_key_and_the_name(
    gate: GateSettings, http_server: HttpServer, grpc_server: GrpcServer
) -> None:
    large = encode(RECORD.with_picture("picture.png", bytes(6 << 20)))
    for server, client in (
        (http_server, Client.http(f"http://127.0.0.1:{gate.http}", token=ALICE, retry_s=0)),
        (grpc_server, Client.grpc(f"127.0.0.1:{gate.grpc}", token=ALICE, retry_s=0)),
    ):
        with client:
            server.reply = Reply(large)
            for picture in (b"image", bytes(7 << 20)):
                assert client.predict(picture, "what?", keep_picture=False).answer == RECORD.answer
                assert server.seen[-1].fields["image"] == picture
                assert server.seen[-1].headers["authorization"] == "Bearer inner"
            # The other keys of a request are what they were.
            assert server.seen[-1].fields["prompt"] == b"what?"
            name = server.seen[-1].headers.get(NAME_HEADER) or server.seen[-1].fields[NAME_FIELD].decode()
            assert name == "alice"


def test_errors_pass_as_they_are(gate: GateSettings, http_server: HttpServer, grpc_server: GrpcServer) -> None:
    words = 'Model "x" has no worker to serve inference request.'
    reply = Reply(words.encode(), status=503, code=grpc.StatusCode.INTERNAL, details=words)
    http_server.reply = grpc_server.reply = reply
    for client in (
        Client.http(f"http://127.0.0.1:{gate.http}", token=ALICE, retry_s=0),
        Client.grpc(f"127.0.0.1:{gate.grpc}", token=ALICE, retry_s=0),
    ):
        with client, pytest.raises(RequestError) as caught:
            client.predict(b"image", "what?")
        assert caught.value.code == "overloaded"


def test_nothing_passes_without_a_key(gate: GateSettings, http_server: HttpServer, grpc_server: GrpcServer) -> None:
    for client in (
        Client.http(f"http://127.0.0.1:{gate.http}", token="wrong", retry_s=0),
        Client.grpc(f"127.0.0.1:{gate.grpc}", token="wrong", retry_s=0),
    ):
        with client, pytest.raises(RequestError) as caught:
            client.predict(bytes(12 << 20), "what?")
        assert (caught.value.code, caught.value.field) == ("unauthorized", "token")
    assert http_server.seen == grpc_server.seen == []


def test_connections_are_used_once_and_the_inner_key_stays_inside(gate: GateSettings, http_server: HttpServer) -> None:
    http_server.reply = Reply(b"{}")
    url = f"http://127.0.0.1:{gate.http}/predictions/m"
    with httpx.Client(headers={"Authorization": f"Bearer {ALICE}"}) as client:
        for _ in range(3):
            answer = client.post(url, content=b"x")
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            assert b"inner" not in answer.content + repr(answer.headers).encode()
    # In chunks, and with a second request behind the first, which never arrives.
    assert httpx.post(url, content=iter([b"x", b"y"]), headers={"Authorization": f"Bearer {ALICE}"}).status_code == 200
    seen = len(http_server.seen)
    head = f"POST /predictions/m HTTP/1.1\r\nAuthorization: Bearer {ALICE}\r\nContent-Length: 1\r\n\r\nx".encode()
    with socket.create_connection(("127.0.0.1", gate.http), timeout=30) as connection:
        connection.sendall(head + b"POST /predictions/m HTTP/1.1\r\nAuthorization: Bearer inner\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    assert len(http_server.seen) == seen + 1
    # Names and keys that a client sends along do not go through.
    sent = {"Authorization": f"Bearer {ALICE}", NAME_HEADER: "root", "Connection": "keep-alive, authorization"}
    assert httpx.post(url, content=b"x", headers=sent).status_code == 200
    headers = http_server.seen[-1].headers
    assert (headers[NAME_HEADER], headers["authorization"], headers["connection"]) == ("alice", "Bearer inner", "close")


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET http://elsewhere/ping HTTP/1.1\r\n\r\n",
        b"GET /ping HTTP/2.0\r\n\r\n",
        b"GET /x HTTP/1.1\r\n Authorization: Bearer x\r\n\r\n",
        b"GET /x HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /x HTTP/1.1\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n",
        b"POST /x HTTP/1.1\r\nContent-Length: chunked\r\n\r\n",
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_bytes_that_are_no_request(gate: GateSettings, http_server: HttpServer, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", gate.http), timeout=30) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        got = b""
        while piece := connection.recv(65536):
            got += piece
    assert got.startswith(b"HTTP/1.1 400 ")
    assert json.loads(got.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_request"
    assert http_server.seen == []


def test_a_server_that_is_gone_is_unavailable(gate: GateSettings, http_server: HttpServer) -> None:
    """Last of this module: what stands behind the gate ends."""
    http_server.__exit__(None, None, None)
    with Client.http(f"http://127.0.0.1:{gate.http}", token=ALICE, retry_s=0) as client:
        with pytest.raises(RequestError) as caught:
            client.predict(b"image", "what?")
        assert caught.value.code == "unavailable"
