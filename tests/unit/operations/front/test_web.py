"""The front over HTTP, byte for byte: strangers' bytes, lengths, time limits, connections, room."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from pathlib import Path

import pytest

from llava_wire.system.inner import KEY_HEADER
from servekit.front import closing, conversation
from servekit.front import room as room_module
from servekit.front import web as web_module
from servekit.front.limits import Limits
from support.fronts import ALICE, HEAD, in_process, told

BROKEN = [
    b"\r\n\r\n",
    b"nonsense\r\n\r\n",
    b"GET http://elsewhere/ping HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /ping HTTP/2.0\r\nHost: x\r\n\r\n",
    b"GET /x HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    b"GET /x HTTP/1.1\r\n\r\n",
    HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    HEAD + b"Content-Length: +1\r\n\r\n",
    HEAD + b"Content-Length: " + b"1" * 5000 + b"\r\n\r\n",
    HEAD + b"Content-Length: chunked\r\n\r\n",
    HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n",
    b"GET /ping?\tHTTP/1.1\nHost:x\n\nPOST\t/predictions/m\tHTTP/1.1\nX: HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /ping?\nX:y HTTP/1.1\r\n\r\n",
    b"GET /ping?\rX:y HTTP/1.1\r\n\r\n",
    b"GET /ping?\x0bx HTTP/1.1\r\n\r\n",
    b"GET\t/ping HTTP/1.1\r\n\r\n",
    b"GET  /ping HTTP/1.1\r\n\r\n",
    b"GET /ping\xa0 HTTP/1.1\r\n\r\n",
    b"\xc3\xa9 /ping HTTP/1.1\r\n\r\n",
    b"GET /ping HTTP/1.1 \r\n\r\n",
    b"GET /ping HTTP/1.1\r\nHost: x\r\nA: b\rC: d\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nHost: x\r\nA\tB: b\r\n\r\n",
    b"GET /ping HTTP/1.1\r\nHost: x\r\nA(B: b\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
]


def test_bytes_that_are_no_request(tmp_path: Path) -> None:
    async def exchange(port: int, arrived: list[bytes]) -> None:
        for sent in BROKEN:
            got = await asyncio.to_thread(told, port, sent)
            status = got.split(b" ")[1] if got else b""
            assert status in (b"400", b"501"), (sent[:80], got[:80])
            assert json.loads(got.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_request", sent[:80]
            assert b"connection: close" in got.lower()
        assert arrived == []

    in_process(tmp_path, exchange)


@pytest.mark.parametrize("line", [b"GET /ping HTTP/1.1", b"GET /ping?a=b HTTP/1.0", b"HEAD /ping HTTP/1.1"])
def test_of_a_health_check_nothing_of_the_clients_is_passed_on(tmp_path: Path, line: bytes) -> None:
    async def exchange(port: int, arrived: list[bytes]) -> None:
        got = await asyncio.to_thread(told, port, line + b"\r\nHost: x\r\nX: y\r\nContent-Length: 0\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 200 ")
        assert got.endswith(b"\r\n\r\n" if line.startswith(b"HEAD") else b'{"status": "Healthy"}')
        lines = ("GET /ping HTTP/1.1", "Host: front", "Connection: close", "Authorization: Bearer inner", "", "")
        assert arrived == ["\r\n".join(lines).encode()]

    in_process(tmp_path, exchange, b'HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n{"status": "Healthy"}')


def test_two_requests_behind_each_other_are_two_with_keys_of_their_own(tmp_path: Path) -> None:
    async def exchange(port: int, arrived: list[bytes]) -> None:
        first = HEAD + b"Content-Length: 1\r\n\r\nx"
        got = await asyncio.to_thread(told, port, first + first.replace(ALICE.encode(), b"inner"))
        assert got.count(b"HTTP/1.1 200 ") == 2
        got = await asyncio.to_thread(told, port, first + first.replace(ALICE.encode(), b"someone else's"))
        assert (got.count(b"HTTP/1.1 200 "), got.count(b"HTTP/1.1 400 ")) == (1, 1)
        assert len(arrived) == 3
        names = [one.lower().partition(KEY_HEADER.encode() + b": ")[2].partition(b"\r\n")[0] for one in arrived]
        assert names == [b"alice", b"server", b"alice"]

    in_process(tmp_path, exchange)


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def test_chunks_become_a_body_of_known_length(tmp_path: Path) -> None:
    async def exchange(port: int, arrived: list[bytes]) -> None:
        body = b"03;a=b\r\nabc\r\n0\r\nX-Llava-Gaze-Key: bob\r\n\r\n"
        assert (await asyncio.to_thread(told, port, CHUNKED + body)).endswith(b"ok")
        head, _, got = arrived[-1].partition(b"\r\n\r\n")
        assert got == b"abc"
        assert b"Content-Length: 3" in head
        assert b"bob" not in head
        for broken in (b"-3\r\nabc\r\n", b"0x3\r\nabc\r\n", b"3\r\nabcd\r\n", b"1" * 70_000):
            got = await asyncio.to_thread(told, port, CHUNKED + broken)
            assert got.startswith(b"HTTP/1.1 400 "), broken[:20]
        assert len(arrived) == 1

    in_process(tmp_path, exchange)


def test_a_body_is_asked_for_once_the_key_is_right(tmp_path: Path) -> None:
    async def exchange(port: int, arrived: list[bytes]) -> None:
        expecting = HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(expecting)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"end")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()
        got = await asyncio.to_thread(told, port, expecting.replace(ALICE.encode(), b"wrong"))
        assert got.startswith(b"HTTP/1.1 400 ")
        got = await asyncio.to_thread(told, port, expecting.replace(b"h: 3", b"h: 999999999"))
        assert got.startswith(b"HTTP/1.1 413 ")

    in_process(tmp_path, exchange)


def test_heads_and_bodies_have_time_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "STALL_S", 0.3)
    monkeypatch.setattr(closing, "LINGER_S", 0.1)

    async def exchange(port: int, arrived: list[bytes]) -> None:
        for start in (HEAD + b"Content-Length: 9\r\n\r\nabc", CHUNKED + b"3\r\nab", CHUNKED + b"0\r\nA: b\r\n"):
            got = await asyncio.wait_for(asyncio.to_thread(told, port, start, ended=False), 10)
            assert b"did not arrive in time" in got
            got = await asyncio.wait_for(asyncio.to_thread(told, port, start), 10)
            assert got.startswith(b"HTTP/1.1 400 ")
            assert b"did not arrive in time" not in got
        for start, words in ((b"POST /x HT", b"head did not arrive in time"), (b"", b"")):
            got = await asyncio.wait_for(asyncio.to_thread(told, port, start, ended=False), 10)
            assert words in got
            assert bool(got) == bool(words)
        monkeypatch.setattr(conversation, "BODY_S", 0.5)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"Content-Length: 99\r\n\r\n")
        for _ in range(4):
            writer.write(b"x")
            await asyncio.sleep(0.1)
        assert b"did not arrive in time" in await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert arrived == []

    in_process(tmp_path, exchange)


def test_clients_that_do_not_take_their_reply_hold_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "STALL_S", 0.3)
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


def test_a_client_that_hangs_up_ends_nothing_behind(tmp_path: Path) -> None:
    async def exchange(port: int, arrived: list[bytes]) -> None:
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST, not FIN
            writer.write(HEAD + b"Content-Length: 1\r\n\r\nx")
            await asyncio.sleep(0.05)
            writer.transport.abort()
        while len(arrived) < 5 or not all(arrived):
            await asyncio.sleep(0.01)

    # Each reply is followed to its end: a task of the front that failed would be raised here.
    in_process(tmp_path, exchange, b"HTTP/1.1 200 OK\r\ncontent-length: 8000000\r\n\r\n" + bytes(8_000_000))


def test_connections_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_module, "CONNECTIONS", 2)

    async def exchange(port: int, arrived: list[bytes]) -> None:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await asyncio.sleep(0.1)
        waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, _ in waiting:
            got = await reader.readuntil(b"}}")
            assert got.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 2" in got.lower()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises((ConnectionError, EOFError)):
            await reader.readexactly(1)
        for _, one in (*held, *waiting, (reader, writer)):
            one.close()
        await asyncio.sleep(0.2)
        assert (await asyncio.to_thread(told, port, HEAD + b"Content-Length: 3\r\n\r\nend")).endswith(b"ok")

    in_process(tmp_path, exchange)


def test_large_requests_wait_for_room_and_small_ones_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_module, "PATIENCE_S", 0.3)
    large = 1 << 20
    limits = Limits(request_bytes=large, held_bytes=2 * large, passed_bytes=large)

    async def exchange(port: int, arrived: list[bytes]) -> None:
        head = HEAD + b"Content-Length: %d\r\n\r\n" % large
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for _, writer in slow:
            writer.write(head)
        await asyncio.sleep(0.1)
        # Two bodies of unfinished requests fill the front's own memory.
        got = await asyncio.to_thread(told, port, head + bytes(large))
        assert got.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 2" in got.lower()
        assert (await asyncio.to_thread(told, port, HEAD + b"Content-Length: 3\r\n\r\nend")).endswith(b"ok")
        for reader, writer in slow:
            writer.write(bytes(large))
            assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200 ")
            writer.close()
        assert (await asyncio.to_thread(told, port, head + bytes(large))).endswith(b"ok")

    in_process(tmp_path, exchange, limits=limits)


def test_forms_arrive_as_plain_bytes_or_not_at_all(tmp_path: Path) -> None:
    async def exchange(port: int, arrived: list[bytes]) -> None:
        part = b'--b\r\nContent-Disposition: form-data; name="n"\r\n\r\nx\r\n'
        many, good = b"Multipart/form-data; boundary=b", part + b"--b--\r\n"

        async def status(kind: bytes, body: bytes) -> bytes:
            head = HEAD + b"X-Llava-Gaze-Form: y\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind, len(body))
            return (await asyncio.to_thread(told, port, head + body)).split(b" ")[1]

        assert await status(many, part * 100 + b"--b--\r\n") == b"422"
        assert await status(many, b"x" + good) == b"400"
        assert await status(b"application/x-www-form-urlencoded", b"a&" * 100_000) == b"415"
        assert arrived == []
        assert await status(many, good) == b"200"
        head, _, body = arrived[0].partition(b"\r\n\r\n")
        assert body == good
        assert b"Content-Type: application/x-llava-gaze-form" in head
        assert head.lower().count(b"x-llava-gaze-form: multipart/form-data; boundary=b") == 1
        assert head.lower().count(b"x-llava-gaze-form:") == 1

    in_process(tmp_path, exchange)
