"""The front's process: it finds its modules where nothing is installed, and a start that it ends says why."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from servekit import server
from servekit.paths import SetupError, with_sources
from servekit.watch import keeper


class Place(NamedTuple):
    """What the keeper reads of a server's state."""

    scratch: str
    logs: str


class Settings:
    """Front settings of which the process never reads a thing."""

    def __init__(self, folder: Path) -> None:
        self.duty = str(folder)

    def write(self, path: Path) -> None:
        """An empty object."""
        path.write_text("{}")


def kept(folder: Path) -> keeper.Keeper:
    return keeper.Keeper(Settings(folder), Place(str(folder), str(folder)))  # type: ignore[arg-type]


def ended(one: keeper.Keeper) -> str:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if (cause := one.ending()) is not None:
            return cause
        time.sleep(0.05)
    raise AssertionError("it still runs")


def test_an_ended_front_says_its_code_and_last_words(tmp_path, monkeypatch):
    (tmp_path / "no_front.py").write_text("import sys; print('first'); sys.exit('no such settings')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(keeper, "FRONT_MODULE", "no_front")
    assert ended(kept(tmp_path)) == "exit code 1: no such settings"


def test_a_start_whose_front_ended_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(keeper, "FRONT_MODULE", "no_such_front_module")
    one = kept(tmp_path)
    ended(one)

    class Launcher:
        """One that runs on."""

        def poll(self) -> None:
            """It never ends."""

    class Handle:
        """What `_wait_ready` asks."""

        state = type("State", (), {"logs": str(tmp_path), "models": ("m",), "pid": os.getpid(), "scratch": ""})()
        launcher, keeper = Launcher(), one

    monkeypatch.setattr(server, "java_running", lambda pid: True)
    begin = time.monotonic()
    with pytest.raises(SetupError, match=r"front: ended while starting .*No module named no_such_front_module"):
        server._wait_ready(Handle(), [], 60.0, lambda line: None)  # type: ignore[arg-type]
    assert time.monotonic() - begin < 30


def test_another_python_finds_the_front_where_nothing_is_installed(tmp_path):
    # -S -E -s: no site-packages, so no editable install; what PYTHONPATH named before stays behind the checkout.
    env = with_sources({**os.environ, "PYTHONPATH": str(tmp_path)})
    assert env["PYTHONPATH"].split(os.pathsep)[-1] == str(tmp_path)
    (tmp_path / "beside.py").write_text("")
    names = ["servekit", "llava_wire", "llava_doors", "llava_server", "llava_viewer", "llava_eval", "beside"]
    code = f"import importlib.util as u; print([name for name in {names} if u.find_spec(name) is None])"
    found = subprocess.run([sys.executable, "-S", "-c", code], env=env, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
