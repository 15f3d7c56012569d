"""Claims of workers: the living, the dead, those on other machines, and those in containers, where processes of one
number and one host's name are not the same process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llava_viewer.cli import main
from llava_viewer.runs import claims as module
from llava_viewer.runs.claims import Claims

ROOT = Path(__file__).resolve().parents[3]
_WORKER = """
import sys, time
sys.path[:0] = {paths!r}
from pathlib import Path
from llava_viewer.runs.claims import Claims
claims = Claims(Path({folder!r}), worker={worker!r}).__enter__()
print(claims.take(0), claims.others, flush=True)
sys.stdin.read()
"""


def claim(folder: Path, **changes: object) -> None:
    """A claim on chunk 0 as a worker of this process would make it, with changes."""
    with Claims(folder) as claims:
        assert claims.take(0)
        [path] = folder.glob("*.claim")
        text = path.read_text("utf-8")
    path.write_text(json.dumps({**json.loads(text), **changes}), encoding="utf-8")


def test_claims_of_the_living_count_and_those_of_the_dead_do_not(tmp_path: Path) -> None:
    claim(tmp_path / "alive")
    with Claims(tmp_path / "alive") as claims:
        assert not claims.take(0)
        assert claims.others == {0: f"process {os.getpid()} of this machine"}
        assert claims.take(1)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name, changes in {
        "gone": {"pid": ended.pid},
        "number of another": {"started": "1"},
        "before the boot": {"boot_id": "another"},
    }.items():
        claim(tmp_path / name, **changes)
        with Claims(tmp_path / name) as claims:
            assert claims.take(0), name
        assert not list((tmp_path / name).iterdir()), name


def test_a_silent_machine_loses_its_claims(tmp_path: Path) -> None:
    claim(tmp_path, host="node7")
    with Claims(tmp_path, stale_s=100) as claims:
        assert not claims.take(0)
        assert "on node7" in claims.others[0]
        [path] = tmp_path.glob("*.claim")
        os.utime(path, (time.time() - 101, time.time() - 101))
        assert claims.take(0)
        assert claims.holds(0)


def test_whoever_was_taken_for_dead_finds_out(tmp_path: Path) -> None:
    with Claims(tmp_path) as slow, Claims(tmp_path) as quick:
        assert slow.take(0)
        [path] = tmp_path.glob("*.claim")
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "boot_id": "another"}), encoding="utf-8")
        assert quick.take(0)
        assert not slow.holds(0)
        slow.release(0)
        assert quick.holds(0)


def contained(folder: Path, worker: str = "") -> subprocess.Popen[str]:
    """A worker that is process 1 of a container, as far as claims can tell: of processes of its own, on this host."""
    paths = [str(ROOT / "handler"), str(ROOT / "viewer")]
    code = _WORKER.format(paths=paths, folder=str(folder), worker=worker)
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c", code]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    """What a contained worker found."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(*processes: subprocess.Popen[str]) -> None:
    """Ends workers as kill -9 does."""
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def containers() -> None:
    """Containers can be made here."""
    probe = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    try:
        made = subprocess.run(probe, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("containers of processes need unshare and root")


def test_two_containers_are_two_workers_though_each_is_process_1(tmp_path: Path) -> None:
    first = contained(tmp_path)
    assert said(first).startswith("True")
    [path] = tmp_path.glob("*.claim")
    assert json.loads(path.read_text("utf-8"))["pid"] == 1
    second = contained(tmp_path)
    try:
        assert said(second) == "False {0: 'process 1 on " + os.uname().nodename + "'}"
    finally:
        end(first, second)


def test_a_worker_that_starts_again_has_what_it_had_begun(tmp_path: Path) -> None:
    first = contained(tmp_path, "job-0")
    assert said(first).startswith("True")
    other = contained(tmp_path, "job-1")
    assert said(other).startswith("False")
    end(first)
    again = contained(tmp_path, "job-0")
    try:
        assert said(again).startswith("True")
    finally:
        end(other, again)


def test_a_container_that_died_is_waited_for_no_longer_than_any_machine(tmp_path: Path) -> None:
    first = contained(tmp_path)
    assert said(first).startswith("True")
    end(first)
    [path] = tmp_path.glob("*.claim")
    with Claims(tmp_path, stale_s=100) as claims:
        assert not claims.take(0)
        os.utime(path, (time.time() - 101, time.time() - 101))
        assert claims.take(0)


def test_a_name_takes_nothing_from_a_process_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Claims(tmp_path, worker="one") as first, Claims(tmp_path, worker="one") as second:
        assert first.take(0)
        assert not second.take(0)
        monkeypatch.setattr(module, "_processes", lambda: "pid:[1]")
        assert second.take(0)
        assert not first.holds(0)


def test_workers_on_ray_have_no_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    asked = ["run", str(tmp_path), "--prompt", "What?", "-o", str(tmp_path / "out"), "--engine", "x", "--ray"]
    assert main([*asked, "--worker", "a"]) == 2
    assert "--worker: got it beside --ray" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*asked, "--worker", "a b\n"])
    assert "--worker: got 'a b\\n', expected" in capsys.readouterr().err
