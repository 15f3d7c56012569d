"""`make bench` runs every benchmark there is, and says which one failed."""

from __future__ import annotations

import subprocess

import bench_all
import pytest


@pytest.mark.parametrize("quick", [True, False])
def test_no_benchmark_is_left_out(quick):
    named = {words[0] for words in bench_all.commands(quick)}
    there = {path.name for path in bench_all.SCRIPTS.glob("bench_*.py")}
    assert there - named <= {"bench_all.py", "bench_table.py", "bench_gpu.py"}
    assert named <= there


def test_one_that_fails_does_not_stop_the_others(monkeypatch, capsys):
    ran = []

    def run(words, check):
        ran.append(words[1].rpartition("/")[2])
        return subprocess.CompletedProcess(words, 1 if "records" in words[1] else 0)

    monkeypatch.setattr(bench_all.subprocess, "run", run)
    monkeypatch.setattr(bench_all.bench_table, "main", lambda arguments: ran.append("table"))
    assert bench_all.main(["--quick"]) == 1
    assert ran[-1] == "table"
    assert "bench_endurance.py" in ran[ran.index("bench_records.py") :]
    assert "error: bench_records.py" in capsys.readouterr().err
    assert bench_all.main(["--only", "bench_engine"]) == 0
