"""The heartbeat file: there from the start, whole for every reader, harmless whatever the folder is like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llava_server.front import heartbeat
from llava_server.front.heartbeat import Heartbeat


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats without a pause worth speaking of."""
    monkeypatch.setattr(heartbeat, "PERIOD_S", 0.001)


def own(folder: Path) -> Path:
    return folder / f"{os.getpid()}.beat"


def until(seen: Callable[[], bool], limit_s: float = 30) -> None:
    """Waits for a condition that another thread brings about."""
    end = time.monotonic() + limit_s
    while not seen():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.001)


def test_it_beats_from_the_start_and_nobody_reads_half_of_it(tmp_path: Path, fast: None) -> None:
    heart = Heartbeat(tmp_path, "a model with a longer name")
    heart.start()
    try:
        written = set()
        for _ in range(2000):
            said = json.loads(own(tmp_path).read_text())
            assert said.keys() == {"pid", "model", "busy_since", "written"}
            assert (said["pid"], said["model"]) == (os.getpid(), "a model with a longer name")
            written.add(said["written"])
        until(lambda: json.loads(own(tmp_path).read_text())["written"] not in written)
    finally:
        heart.stop()


def test_a_folder_that_is_gone_does_no_harm_and_may_come_back(tmp_path: Path, fast: None) -> None:
    folder = tmp_path / "duty"
    heart = Heartbeat(folder, "m")
    heart.start()
    try:
        with heart.busy():
            folder.mkdir()
            until(own(folder).exists)
    finally:
        heart.stop()


def test_a_full_folder_still_shows_that_the_worker_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heart = Heartbeat(tmp_path, "m")
    heart._beat(tmp_path)
    before = own(tmp_path).read_text()
    os.utime(own(tmp_path), (0, 0))

    def full(self: Path, text: str, encoding: str) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    heart._beat(tmp_path)
    assert own(tmp_path).read_text() == before
    assert own(tmp_path).stat().st_mtime > 0
    assert list(tmp_path.iterdir()) == [own(tmp_path)]


def test_a_worker_that_loads_is_busy_from_its_first_beat(tmp_path: Path) -> None:
    heart = Heartbeat(tmp_path, "m")
    with heart.busy():
        heart.start()
        assert json.loads(own(tmp_path).read_text())["busy_since"] is not None
    heart.stop()


def test_dead_workers_files_go_and_others_stay(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    kept = {f"{os.getppid()}.beat", f"{ended.pid}.busy", "x.beat", "drain.json"}
    for name in {*kept, f"{ended.pid}.beat", f"{ended.pid}.beat-partial", "99999999999999999999.beat"}:
        (tmp_path / name).touch()
    heart = Heartbeat(tmp_path, "m")
    heart.start()
    heart.stop()
    assert {path.name for path in tmp_path.iterdir()} == {*kept, own(tmp_path).name}


def test_a_worker_without_a_folder_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LLAVA_GAZE_DUTY", raising=False)
    monkeypatch.chdir(tmp_path)
    heart = Heartbeat.from_environment("m")
    heart.start()
    with heart.busy():
        assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("LLAVA_GAZE_DUTY", str(tmp_path))
    other = Heartbeat.from_environment("m")
    other.start()
    other.stop()
    assert list(tmp_path.iterdir()) == [own(tmp_path)]
