"""Findings survive whatever ends the run, and nothing takes longer than it may."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.gpu import probe
from bench.gpu.findings import Journal, OutOfTime, limited, read_findings
from servekit.paths import SCRIPTS

LATER = """
import sys, time
from pathlib import Path
from bench.gpu.findings import Journal
journal = Journal(Path(sys.argv[1]), part="x")
journal.note("first", ms=1.23456789)
journal.note("second")
time.sleep(60)
"""


def test_what_was_found_before_a_kill_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "findings.jsonl"
    words = [sys.executable, "-c", LATER, str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=SCRIPTS, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGKILL)
    found = read_findings(path)
    assert found == [json.loads(line) for line in lines]
    assert [(one["part"], one["what"]) for one in found] == [("x", "first"), ("x", "second")]
    assert found[0]["ms"] == 1.2346


def test_a_line_that_was_cut_off_harms_no_other(tmp_path: Path) -> None:
    path = tmp_path / "findings.jsonl"
    Journal(path, quiet=True).note("whole")
    with path.open("a") as file:
        file.write('{"what": "ha')
    assert [one["what"] for one in read_findings(path)] == ["whole"]
    assert read_findings(tmp_path / "none") == []


def test_a_limit_ends_what_takes_longer_and_nothing_else() -> None:
    begin = time.monotonic()
    with pytest.raises(OutOfTime), limited(0.2):
        time.sleep(20)
    assert time.monotonic() - begin < 10
    with limited(30):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_parts_stand_for_themselves(tmp_path: Path) -> None:
    path = tmp_path / "findings.jsonl"
    journal = Journal(path, quiet=True)
    ran = []

    def fails() -> None:
        raise RuntimeError("no kernel")

    parts = [
        ("broken", 5.0, fails),
        ("slow", 0.2, lambda: time.sleep(20)),
        ("good", 5.0, lambda: ran.append("good")),
    ]
    assert probe.take(parts, journal, time.perf_counter() + 60) == 2
    assert ran == ["good"]
    told = [one["what"] for one in read_findings(path)]
    assert told == ["broken: failed", "slow: cut off", "done"]
    assert "no kernel" in read_findings(path)[0]["error"]


def test_without_time_left_parts_are_left_out_and_say_so(tmp_path: Path) -> None:
    path = tmp_path / "findings.jsonl"
    ran: list[str] = []
    parts = [(name, 5.0, lambda name=name: ran.append(name)) for name in ("a", "b")]
    assert probe.take(parts, Journal(path, quiet=True), time.perf_counter() - 1) == 2
    assert ran == []
    assert [one["what"] for one in read_findings(path)] == ["a: left out", "b: left out", "done"]
