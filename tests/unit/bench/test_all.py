"""`make bench` runs every benchmark there is, and says which one failed."""

from __future__ import annotations

import subprocess

import pytest

from bench import all as bench_all


@pytest.mark.parametrize("quick", [True, False])
def test_no_benchmark_is_left_out(quick):
    named = {words[0] for words in bench_all.commands(quick)} - {"gpu.answers", "dataset.runs", "dataset.kills"}
    there = {path.stem for path in bench_all.DRIVERS.glob("*.py")}
    assert there - named == {"__init__", "all", "table"}
    assert named <= there
    assert "dataset.runs" in {words[0] for words in bench_all.commands(quick)}
    assert len(named) > 7


def test_one_that_fails_does_not_stop_the_others(monkeypatch, capsys, tmp_path):
    ran, folders = [], set()

    def run(words, env, check):
        assert words[1] == "-m"
        ran.append(words[2])
        folders.add(env[bench_all.FOLDER_VARIABLE])
        return subprocess.CompletedProcess(words, 1 if "records" in words[2] else 0)

    monkeypatch.setattr(bench_all.subprocess, "run", run)
    monkeypatch.setattr(bench_all.table, "main", ran.append)
    monkeypatch.setattr(bench_all, "QUICK_FOLDER", tmp_path / "quick")
    monkeypatch.setattr(bench_all, "FOLDER", tmp_path / "published")
    assert bench_all.main(["--quick"]) == 1
    assert ran.pop() == ["--folder", str(tmp_path / "quick")]
    assert folders == {str(tmp_path / "quick")}, "a quick look must not replace published figures"
    assert "bench.endurance" in ran[ran.index("bench.records") :]
    assert "error: records" in capsys.readouterr().err
    assert bench_all.main(["--only", "engine"]) == 0
    assert ran.pop() == ["--folder", str(tmp_path / "published")]
