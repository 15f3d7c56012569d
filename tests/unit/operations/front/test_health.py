"""The front's word on workers: heartbeats that stop, requests that do not arrive, and what the watchdog ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from servekit.front import health as health_module
from servekit.front.access import Access
from servekit.front.health import HEALTH_FILE, Health
from servekit.front.heartbeats import read_beats
from servekit.watch import watchdog as watchdog_module
from servekit.watch.watchdog import Watchdog
from support.fronts import in_a_loop_of_its_own, settings_for


def beat(folder: Path, *, pid: int = os.getpid(), model: str = "m", age_s: float = 0.0, busy: bool = False) -> None:
    """A worker's heartbeat."""
    path = folder / f"{pid}.beat"
    path.write_text(json.dumps({"pid": pid, "model": model, "busy_since": 1.0 if busy else None}), "utf-8")
    os.utime(path, (time.time() - age_s,) * 2)


def watched(folder: Path, answers: bool, look: Callable[[Health], Awaitable[None]]) -> None:
    """A health that watches model m behind a TorchServe that answers probes, or takes them and says nothing."""

    async def run() -> None:
        async def behind(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            body = b'{"status": "Healthy"}' if head.startswith(b"GET /ping ") else b'{"ready": true}'
            if answers or head.startswith(b"GET /ping "):
                assert b"x-llava-gaze-probe: 1" in head or b"/ping" in head
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            else:
                await reader.read()
            writer.close()

        server = await asyncio.start_server(behind, "127.0.0.1", 0)
        settings = settings_for(folder, server.sockets[0].getsockname()[1], models=("m",))
        health = Health(settings, Access(settings))
        watching = asyncio.create_task(health.watch())
        await look(health)
        watching.cancel()
        server.close()

    in_a_loop_of_its_own(run())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds as tenths."""
    for name, value in (("IDLE_S", 0.5), ("_PROBE_S", 0.1), ("_WATCH_S", 0.05)):
        monkeypatch.setattr(health_module, name, value)


async def until(true: Callable[[], bool]) -> None:
    """Waits for it."""
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


def test_workers_that_answer_are_healthy(tmp_path: Path) -> None:
    async def look(health: Health) -> None:
        beat(tmp_path / "duty")
        await asyncio.sleep(1.2)
        assert health.troubles() == []
        assert await health.ping() == (200, {"status": "Healthy"})
        assert json.loads((tmp_path / "duty" / HEALTH_FILE).read_text("utf-8"))["troubles"] == []

    watched(tmp_path, True, look)


def test_a_worker_without_a_heartbeat_is_named(tmp_path: Path) -> None:
    async def look(health: Health) -> None:
        beat(tmp_path / "duty", age_s=40)
        [trouble] = health.troubles()
        assert (trouble["kind"], trouble["pid"], trouble["model"]) == ("worker", os.getpid(), "m")
        assert 39 < trouble["for_s"] < 60
        status, said = await health.ping()
        assert (status, said["status"]) == (503, "Unhealthy")
        await until(lambda: health.is_silent("m"))
        assert not health.is_silent("other")
        beat(tmp_path / "duty", pid=os.getppid())
        await until(lambda: not health.is_silent("m"))  # another worker answers
        (tmp_path / "duty" / f"{os.getppid()}.beat").unlink()
        # One that is gone is TorchServe's to start again.
        (tmp_path / "duty" / f"{os.getpid()}.beat").unlink()
        beat(tmp_path / "duty", pid=2**22 + 5, age_s=40)
        assert health.troubles() == []

    watched(tmp_path, True, look)


def test_a_request_that_does_not_arrive_is_noticed_while_workers_are_idle_alone(tmp_path: Path) -> None:
    async def look(health: Health) -> None:
        # None is there, then one loads or works: that a probe waits says nothing.
        await asyncio.sleep(1.0)
        assert health.troubles() == []
        beat(tmp_path / "duty", busy=True)
        await asyncio.sleep(1.0)
        assert health.troubles() == []
        beat(tmp_path / "duty")
        await until(lambda: [trouble["kind"] for trouble in health.troubles()] == ["server"])
        assert (await health.ping())[0] == 503
        health.moved("m")
        assert health.troubles() == []

    watched(tmp_path, False, look)


def test_heartbeats_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    beat(tmp_path)
    for number, content in enumerate((b"", b"{}", b"[]", b"\xff", b'{"pid": "x", "model": 1, "busy_since": null}')):
        (tmp_path / f"{number}.beat").write_bytes(content)
    assert [(one.pid, one.model, one.is_idle) for one in read_beats(tmp_path)] == [(os.getpid(), "m", True)]


def test_the_watchdog_ends_what_is_silent_and_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog_module, "duty_folder", lambda name: tmp_path)
    monkeypatch.setattr(watchdog_module, "java_running", lambda pid: True)
    said: list[str] = []
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(sleeper) as worker, subprocess.Popen(sleeper) as java, subprocess.Popen(sleeper) as stopped:

        def troubles(*found: Any) -> None:
            (tmp_path / HEALTH_FILE).write_text(json.dumps({"troubles": found}), "utf-8")
            state: Any = SimpleNamespace(name="x", pid=server)
            Watchdog(state, said.append).look()

        server = java.pid
        # A process that is none of this server's, and silences that are still short.
        troubles({"kind": "worker", "pid": worker.pid, "model": "m", "for_s": 1000.0})
        troubles({"kind": "server", "model": "m", "for_s": 20.0})
        assert (worker.poll(), java.poll(), said) == (None, None, [])
        troubles({"kind": "server", "model": "m", "for_s": 50.0})
        assert java.wait(timeout=30) == -9
        server = os.getpid()
        troubles({"kind": "worker", "pid": worker.pid, "model": "m", "for_s": 61.0})
        assert worker.wait(timeout=30) == -9
        for signum in (0, signal.SIGSTOP):
            stopped.send_signal(signum)
            time.sleep(0.2)
            troubles({"kind": "worker", "pid": stopped.pid, "model": "m", "for_s": 11.0})
            assert (stopped.poll() is None) == (signum == 0) or stopped.wait(timeout=30) == -9
    assert len(said) == 3
    assert "silent for 50 s" in said[0]
    (tmp_path / HEALTH_FILE).write_text("{", "utf-8")
    Watchdog(SimpleNamespace(name="x", pid=1), said.append).look()  # type: ignore[arg-type]
