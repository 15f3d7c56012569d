"""Logs that nothing else bounds: head and tail stay, writers go on, and trouble with the file is nobody's trouble."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from servekit.java.trimming import LEFT_OUT, MOST_BYTES, trim, trim_own
from servekit.launching import _JAVA_PROCESS


def _lines(first: int, last: int) -> bytes:
    return b"".join(b"line %06d\n" % number for number in range(first, last))


def test_head_and_tail_stay_and_a_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "serve.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(_lines(0, 1000))
        trim(log, most_bytes=12_000, kept_bytes=1000)
        assert log.read_bytes() == _lines(0, 1000)
        for first in (1000, 2000, 3000):
            writer.write(_lines(first, first + 1000))
            trim(log, most_bytes=12_000, kept_bytes=1000)
        writer.write(b"the last word\n")
    written = log.read_bytes()
    assert len(written) < 12_000
    assert written.startswith(_lines(0, 83))
    assert written.endswith(_lines(3920, 4000) + b"the last word\n")
    assert written.count(LEFT_OUT) == 1
    assert b"\0" not in written


def test_one_endless_line_is_bounded_too(tmp_path: Path) -> None:
    log = tmp_path / "serve.log"
    log.write_bytes(b"x" * 50_000)
    trim(log, most_bytes=12_000, kept_bytes=1000)
    assert len(log.read_bytes()) < 2200


def test_log4j_ends_its_own_files_and_a_missing_folder_is_no_trouble(tmp_path: Path) -> None:
    for name in ("serve.log", "gate.log", "ts_log.log", "requests.jsonl"):
        (tmp_path / name).write_bytes(b"a\n" * (MOST_BYTES // 2 + 1))
    trim_own(tmp_path)
    sizes = {path.name: path.stat().st_size > MOST_BYTES for path in tmp_path.iterdir()}
    assert sizes == {"serve.log": False, "gate.log": False, "ts_log.log": True, "requests.jsonl": True}
    trim_own(tmp_path / "none")
    trim(tmp_path / "none.log")


JAVA = """
import subprocess, sys
def start():
    assert sys.argv[1:] == ["--start", "x"]
    subprocess.Popen([sys.executable, "-c", sys.argv.pop() and PROGRAM]).wait()
PROGRAM = {program!r}
"""


def _run(folder: Path, program: str, console: Path) -> int:
    """A stand-in for TorchServe's launcher, under the process that stands by it."""
    (folder / "stand_in.py").write_text(JAVA.format(program=program))
    with console.open("ab") as file:
        command = [sys.executable, "-P", str(_JAVA_PROCESS), "stand_in", "--start", "x"]
        return subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, env={"PYTHONPATH": str(folder)}, timeout=120, check=False
        ).returncode


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("import sys; sys.exit(3)", 3),
        ("import os; os.kill(os.getpid(), 9)", 137),
        ("import os; os.kill(os.getpid(), 15)", 143),
        ("pass", 0),
    ],
)
def test_the_exit_code_is_that_of_java(tmp_path: Path, program: str, code: int) -> None:
    assert _run(tmp_path, program, tmp_path / "console.log") == code


FLOOD = """
import sys, time
print("first words", flush=True)
for part in range(40):
    sys.stdout.write("a stack trace of a stranger's making\\n" * 30_000)
    sys.stdout.flush()
    time.sleep(0.05)
time.sleep(1.5)
print("last words", flush=True)
"""


def test_what_java_prints_has_an_end(tmp_path: Path) -> None:
    """43 MB in two seconds: the first and the last words stay, and the file is small in the end."""
    console = tmp_path / "console.log"
    assert _run(tmp_path, FLOOD, console) == 0
    written = console.read_bytes()
    assert len(written) < MOST_BYTES
    assert written.startswith(b"first words\n")
    assert written.endswith(b"last words\n")
    assert LEFT_OUT in written


def test_java_runs_on_when_its_log_is_gone(tmp_path: Path) -> None:
    console = tmp_path / "logs" / "console.log"
    console.parent.mkdir()
    begin = time.monotonic()
    program = f"import shutil, time; shutil.rmtree({str(console.parent)!r}); print('x' * 20_000_000, flush=True)"
    assert _run(tmp_path, f"{program}; time.sleep(1)", console) == 0
    assert time.monotonic() - begin < 60
