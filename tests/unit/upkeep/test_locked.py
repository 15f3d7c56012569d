"""Several makes at a time: one installs, the others wait and find it done."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from servekit.paths import ROOT

PROGRAM = str(ROOT / "scripts" / "upkeep" / "locked.py")
SLOW = "echo run >> runs; touch begun; while [ ! -e go ]; do sleep 0.01; done; touch made"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to make something in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "source").write_text("", "utf-8")
    return tmp_path


def started(script: str) -> subprocess.Popen[str]:
    """A command that makes `made` of `source`, unless it is there."""
    command = [sys.executable, PROGRAM, "made", "source", "--", "sh", "-ec", script]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    """Waits until a file is there."""
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_second_waits_and_finds_it_made(folder: Path) -> None:
    first = started(SLOW)
    wait_for(folder / "begun")
    second = started(SLOW)
    assert second.stderr is not None
    assert second.stderr.readline() == "waiting for another process that makes .\n"
    (folder / "go").touch()
    assert (first.wait(60), second.wait(60)) == (0, 0)
    assert (folder / "runs").read_text("utf-8") == "run\n"
    os.utime(folder / "source")
    assert started(SLOW).wait(60) == 0
    assert (folder / "runs").read_text("utf-8") == "run\nrun\n"


def test_one_that_is_killed_lets_the_next_do_it(folder: Path) -> None:
    first = started("touch begun; exec sleep 600")
    wait_for(folder / "begun")
    second = started("touch made")
    assert second.stderr is not None
    second.stderr.readline()
    first.kill()
    assert first.wait(60) < 0
    assert second.wait(60) == 0
    assert (folder / "made").exists()


def test_one_that_fails_is_not_taken_for_done() -> None:
    assert started("exit 3").wait(60) == 3
    assert started("touch made").wait(60) == 0
