"""The senders of a load and the watch on processes: what a crowd sees of a server, and who ended or took what."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import psutil
import pytest

from stress.crowding.processes import Census, Others, kind_of
from stress.crowding.sockets import Connection, post, send_all


def test_processes_are_known_by_their_command() -> None:
    assert kind_of(["java", "-cp", "x", "org.pytorch.serve.ModelServer"]) == "java"
    assert kind_of(["python", "/s/ts/model_service_worker.py", "--port"]) == "worker"
    assert kind_of(["python", "-m", "servekit.gate", "f"]) == "front"
    assert kind_of(["python", "-m", "servekit.front.main"]) == "front"
    assert kind_of(["python", "scripts/serve.py"]) is None


def served(reply: Callable[[socket.socket], None]) -> tuple[str, int]:
    """A server that treats every connection alike."""
    listener = socket.create_server(("127.0.0.1", 0))

    def loop() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=reply, args=(connection,), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()
    host, port = listener.getsockname()
    return host, port


def early(connection: socket.socket) -> None:
    """Refuses before it has read the body, and closes."""
    connection.recv(100)
    connection.sendall(b"HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n")
    connection.close()


def whole(connection: socket.socket) -> None:
    """Reads to the end first: a close with something unread may cost what was sent last."""
    left = 3_000_000
    while left > 0 and (piece := connection.recv(1 << 20)):
        left -= len(piece)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
    connection.sendall(b"lo")


def cut(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
    connection.close()


def silent(connection: socket.socket) -> None:
    threading.Event().wait(5)
    connection.close()


def closing(connection: socket.socket) -> None:
    connection.close()


@pytest.mark.parametrize(
    ("reply", "is_whole", "word"),
    [
        (early, True, "503, retry after"),
        (whole, True, "answered"),
        (cut, True, "an answer cut off"),
        (silent, True, "no reply"),
        (silent, False, "left open"),
        (closing, False, "closed"),
    ],
)
def test_a_crowd_sees_what_a_server_does(reply: Callable[[socket.socket], None], is_whole: bool, word: str) -> None:
    body = bytes(3_000_000)
    crowd = [Connection((post("/x", "a/b", len(body), "key"), body), whole=is_whole)] * 20
    seen = asyncio.run(send_all(served(reply), crowd, 0.5 if reply is silent else 60))
    assert {one.word for one in seen} == {word}


def test_a_process_that_ends_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stress.crowding.processes._AGE_S", 0.0)
    code = "import sys; print(flush=True); sys.stdin.readline(); sum(range(10**7)); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, "servekit.front"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        census = Census(os.getpid(), every_s=0.05)
        census.start()
        while len(census.samples) < 2:
            time.sleep(0.01)
        assert census.ended() == {"java": 0, "front": 0, "worker": 0}
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        seen = len(census.samples)
        while len(census.samples) < seen + 2:
            time.sleep(0.01)
        child.communicate()
    census.stop()
    assert census.ended() == {"java": 0, "front": 1, "worker": 0}
    assert census.peaks_mb()["front"] > 1
    assert census.cpu_s()["front"] > 0.02
    assert census.samples[0]["front_files"] >= 3


def test_what_others_take_does_not_count_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose every busy second is this process's."""
    mine = psutil.Process()
    monkeypatch.setattr(
        psutil, "cpu_times", lambda: SimpleNamespace(user=sum(mine.cpu_times()[:4]), nice=0, system=0, irq=0, softirq=0)
    )
    others, end = Others(), time.process_time() + 0.3
    while time.process_time() < end:
        pass
    assert others.cores() < 0.3
