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


def test_one_that_fails_does_not_stop_the_others(monkeypatch, capsys, tmp_path):
    ran, folders = [], set()

    def run(words, env, check):
        ran.append(words[1].rpartition("/")[2])
        folders.add(env[bench_all.FOLDER_VARIABLE])
        return subprocess.CompletedProcess(words, 1 if "records" in words[1] else 0)

    monkeypatch.setattr(bench_all.subprocess, "run", run)
    monkeypatch.setattr(bench_all.bench_table, "main", ran.append)
    monkeypatch.setattr(bench_all, "QUICK_FOLDER", tmp_path / "quick")
    monkeypatch.setattr(bench_all, "FOLDER", tmp_path / "published")
    assert bench_all.main(["--quick"]) == 1
    assert ran.pop() == ["--folder", str(tmp_path / "quick")]
    assert folders == {str(tmp_path / "quick")}, "a quick look must not replace published figures"
    assert "bench_endurance.py" in ran[ran.index("bench_records.py") :]
    assert "error: bench_records.py" in capsys.readouterr().err
    assert bench_all.main(["--only", "bench_engine"]) == 0
    assert ran.pop() == ["--folder", str(tmp_path / "published")]
