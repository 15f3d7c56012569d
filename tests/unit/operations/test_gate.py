"""The gate of named keys before made-up servers: what it lets through, byte for byte, and what it never does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import pytest
from servekit import gate as gate_module
from servekit import relay
from servekit.gate import NAME_FIELD, NAME_HEADER, Gate
from servekit.gatekeeper import Gatekeeper, GateSettings
from servekit.ports import _free_ports

from llava_viewer.client import Client, RequestError
from llava_viewer.client.messages import PREDICTIONS, messages
from llava_wire import encode
from support.replies import GrpcServer, HttpServer, Reply
from support.synthetic import make_record


def in_a_loop_of_its_own(coroutine: Any) -> Any:
    """Runs it in another thread: browser tests of the same process leave a running loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


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


def told(port: int, sent: bytes, *, ended: bool = True) -> bytes:
    """All that comes back for these bytes."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        if ended:
            connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65536):
            got += piece
    return got


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


def test_more_grpc_calls_than_there_is_room_for_are_overload(gate: GateSettings, grpc_server: GrpcServer) -> None:
    """In the words of gRPC itself, whose code alone would say that a message is too large."""
    grpc_server.reply = Reply(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details="Concurrent RPC limit exceeded!")
    client = Client.grpc(f"127.0.0.1:{gate.grpc}", token=ALICE, retry_s=0)
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
        b"POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /ping?\tHTTP/1.1\nHost:x\n\nPOST\t/predictions/m\tHTTP/1.1\nX: HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /ping?\nX:y HTTP/1.1\r\n\r\n",
        b"GET /ping?\rX:y HTTP/1.1\r\n\r\n",
        b"GET /ping?\x0bx HTTP/1.1\r\n\r\n",
        b"GET /ping?\x0cx HTTP/1.1\r\n\r\n",
        b"GET\t/ping HTTP/1.1\r\n\r\n",
        b"GET  /ping HTTP/1.1\r\n\r\n",
        b"GET /ping\xa0 HTTP/1.1\r\n\r\n",
        b"\xc3\xa9 /ping HTTP/1.1\r\n\r\n",
        b"GET /ping HTTP/1.1 \r\n\r\n",
        b"GET /ping HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nA: b\rC: d\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nA: b\tc\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nA : b\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nA\tB: b\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nA(B: b\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
        b"GET /ping HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_bytes_that_are_no_request(gate: GateSettings, http_server: HttpServer, sent: bytes) -> None:
    got = told(gate.http, sent)
    assert got.startswith(b"HTTP/1.1 400 ")
    assert json.loads(got.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_request"
    assert http_server.seen == []


def test_names_in_any_spelling_of_the_header_do_not_pass(gate: GateSettings, http_server: HttpServer) -> None:
    http_server.reply = Reply(b"{}")
    for name in (NAME_HEADER, NAME_HEADER.upper(), NAME_HEADER.title()):
        sent = [("Authorization", f"Bearer {ALICE}"), (name, "root"), (name, "bob")]
        assert httpx.post(f"http://127.0.0.1:{gate.http}/predictions/m", content=b"x", headers=sent).status_code == 200
        assert http_server.seen[-1].headers[NAME_HEADER] == "alice"


def test_grpc_messages_carry_the_name_of_their_key_alone(gate: GateSettings, grpc_server: GrpcServer) -> None:
    """Also when the client leaves a field open, into which something appended would fall."""
    own = messages().PredictionsRequest(model_name="m", input={"image": b"x", NAME_FIELD: b"bob"}).SerializeToString()
    metadata = (("authorization", f"Bearer {ALICE}"),)
    grpc_server.reply = Reply(b"answer")
    with grpc.insecure_channel(f"127.0.0.1:{gate.grpc}") as channel:
        call = channel.unary_unary(PREDICTIONS)
        # A field that nobody knows, whole.
        for message in (own, own + b"\x7a\x03abc"):
            call(message, metadata=metadata, timeout=30)
            assert grpc_server.seen[-1].fields == {"image": b"x", NAME_FIELD: b"alice"}
        seen = len(grpc_server.seen)
        for damaged in (b"\x7a\x29", b"\x1a", b"\xff\xff\xff", b"\x0a\x02\xff\xff"):
            with pytest.raises(grpc.RpcError) as refused:
                call(own + damaged, metadata=metadata, timeout=30)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "PredictionsRequest" in str(refused.value.details())
        # Two keys, as over HTTP, are none.
        with pytest.raises(grpc.RpcError) as refused:
            call(own, metadata=(("authorization", "Bearer wrong"), *metadata), timeout=30)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert len(grpc_server.seen) == seen


Exchange = Callable[[int, list[bytes]], Awaitable[None]]


def in_process(
    tmp_path: Path, exchange: Exchange, reply: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
) -> None:
    """A gate in this process before a server that notes the bytes of each connection and answers after a head."""

    async def run() -> None:
        arrived: list[bytes] = []

        async def behind(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            number = len(arrived)
            arrived.append(b"")
            while not (arrived[number].startswith(b"GET /ping") or arrived[number].endswith((b"0\r\n\r\n", b"end"))):
                piece = await reader.read(65536)
                if not piece:
                    return writer.close()
                arrived[number] += piece
            writer.write(reply)
            writer.close()

        keys, own = tmp_path / "keys.yaml", tmp_path / "key_file.json"
        keys.write_text(f"keys: {{alice: {ALICE}}}", "utf-8")
        keys.chmod(0o600)
        own.write_text(json.dumps({"inference": {"key": "inner"}}), "utf-8")
        server = await asyncio.start_server(behind, "127.0.0.1", 0)
        inner = server.sockets[0].getsockname()[1]
        one = Gate(GateSettings("127.0.0.1", 0, 0, inner, 0, str(keys), str(own), "", "", most_bytes=1))
        web = await asyncio.start_server(one._connected, "127.0.0.1", 0, limit=65536)
        async with server, web:
            await exchange(web.sockets[0].getsockname()[1], arrived)
            await asyncio.gather(*one._tasks)

    in_a_loop_of_its_own(run())


@pytest.mark.parametrize("line", [b"GET /ping HTTP/1.1", b"GET /ping?a=b HTTP/1.0", b"HEAD /ping HTTP/1.1"])
def test_of_a_health_check_nothing_of_the_clients_is_passed_on(tmp_path: Path, line: bytes) -> None:
    async def exchange(port: int, arrived: list[bytes]) -> None:
        sent = line + b"\r\nHost: x\r\nExpect: 100-continue\r\nX: y\r\nContent-Length: 0\r\n\r\nPOST / HTTP/1.1\r\n\r\n"
        got = await asyncio.to_thread(told, port, sent)
        assert got.endswith(b"\r\n\r\n" if line.startswith(b"HEAD") else b"\r\n\r\nok")
        lines = ("GET /ping HTTP/1.1", "Host: gate", "Authorization: Bearer inner", "Connection: close", "", "")
        assert arrived == ["\r\n".join(lines).encode()]

    in_process(tmp_path, exchange)


HEAD = f"POST /predictions/m HTTP/1.1\r\nAuthorization: Bearer {ALICE}\r\n".encode()
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def test_chunks_are_made_anew_and_nothing_behind_them_is_passed_on(tmp_path: Path) -> None:
    async def exchange(port: int, arrived: list[bytes]) -> None:
        body = b"03;a=b\r\nabc\r\n0\r\nX-Llava-Gaze-Key: bob\r\n\r\nGET /x HTTP/1.1\r\n\r\n"
        assert (await asyncio.to_thread(told, port, CHUNKED + body)).endswith(b"ok")
        assert arrived[-1].partition(b"\r\n\r\n")[2] == b"3\r\nabc\r\n0\r\n\r\n"
        for broken in (b"3\nabc\r\n0\r\n\r\n", b"-3\r\nabc\r\n", b"0x3\r\nabc\r\n", b"3\r\nabcd\r\n", b"1" * 70_000):
            got = await asyncio.to_thread(told, port, CHUNKED + broken)
            assert got.startswith(b"HTTP/1.1 400 "), broken[:20]

    in_process(tmp_path, exchange)


def test_bodies_have_a_time_limit_and_clients_that_leave_hold_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "STALL_S", 0.3)
    monkeypatch.setattr(relay, "_LINGER_S", 0.1)

    async def exchange(port: int, arrived: list[bytes]) -> None:
        for start in (HEAD + b"Content-Length: 9\r\n\r\nabc", CHUNKED + b"3\r\nab", CHUNKED + b"0\r\nA: b\r\n"):
            got = await asyncio.wait_for(asyncio.to_thread(told, port, start, ended=False), 10)
            assert b"did not arrive in time" in got
            assert await asyncio.wait_for(asyncio.to_thread(told, port, start), 10) == b""
        monkeypatch.setattr(relay, "BODY_S", 0.5)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"Content-Length: 99\r\n\r\n")
        for _ in range(4):
            writer.write(b"x")
            await asyncio.sleep(0.1)
        assert b"did not arrive in time" in await asyncio.wait_for(reader.read(), 10)
        writer.close()

    in_process(tmp_path, exchange)


def test_clients_that_do_not_take_their_reply_hold_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "STALL_S", 0.3)
    size = 32 << 20

    async def exchange(port: int, arrived: list[bytes]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(HEAD + b"Content-Length: 3\r\n\r\nend")
        await asyncio.sleep(1.5)
        got = 0
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                got += len(piece)
        assert got < size
        writer.close()

    in_process(tmp_path, exchange, b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + bytes(size))


def test_connections_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "_MOST_CONNECTIONS", 2)

    async def exchange(port: int, arrived: list[bytes]) -> None:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await asyncio.sleep(0.1)
        waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, _ in waiting:
            assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises((ConnectionError, EOFError)):
            await reader.readexactly(1)
        for _, one in (*held, *waiting, (reader, writer)):
            one.close()
        await asyncio.sleep(0.2)
        assert (await asyncio.to_thread(told, port, b"GET /ping HTTP/1.1\r\n\r\n")).endswith(b"ok")

    in_process(tmp_path, exchange)


def test_a_server_that_is_gone_is_unavailable(gate: GateSettings, http_server: HttpServer) -> None:
    """Last of this module: what stands behind the gate ends."""
    http_server.__exit__(None, None, None)
    with Client.http(f"http://127.0.0.1:{gate.http}", token=ALICE, retry_s=0) as client:
        with pytest.raises(RequestError) as caught:
            client.predict(b"image", "what?")
        assert caught.value.code == "unavailable"
