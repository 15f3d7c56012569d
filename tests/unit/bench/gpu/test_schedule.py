"""The GPU schedule: within its time, the most important first, and rehearsed on the CPU with the same code."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path

import pytest
import torch

from bench.gpu import probe, schedule
from bench.gpu.findings import read_findings
from bench.gpu.schedule import EXTRA, FINDINGS, RUNS, Part, Run
from support.signals import usual_signals

ROOT = schedule.ROOT
PARTS = [part for run in (*RUNS.values(), EXTRA) for part in run.parts]


def test_five_runs_of_fifteen_and_a_half_minutes() -> None:
    assert sum(run.limit_s for run in RUNS.values()) <= 15.5 * 60
    for run in RUNS.values():
        needed = [part.limit_s for part in run.parts if "{bundle}" not in part.words]
        assert sum(needed) + schedule._GRACE_S <= run.limit_s
    assert "tests/gpu/test_small_model.py" in RUNS[1].parts[0].words, "right before fast"


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_parts_name_programs_that_are_there(part: Part, tmp_path: Path) -> None:
    for device in ("cuda", "cpu"):
        words = schedule.command(part, device, tmp_path, tmp_path / "bundle.tar.xz")
        assert words[0] == sys.executable
        files = [word for word in words if word.startswith(("scripts/", "tests/"))]
        modules = [word for word in words if word.startswith("bench.")]
        assert files + modules
        assert all((ROOT / word).is_file() for word in files)
        assert all(importlib.util.find_spec(word) for word in modules)
        assert not any("{" in word for word in words)
        assert ("--device" in words) == (device == "cpu" and part.name != "install")


def test_a_part_that_hangs_is_ended_and_the_next_one_runs(tmp_path: Path) -> None:
    mark = tmp_path / "ended"
    hangs = f"""
import time, pathlib
print("begun", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path({str(mark)!r}).touch()
"""
    run = Run(60, (Part("hangs", 8, ("-c", hangs)), Part("runs", 30, ("-c", "1"))))
    begin = time.monotonic()
    with usual_signals():  # as its main does
        assert schedule.perform(run, "cuda", tmp_path) == 1
    assert time.monotonic() - begin < 50
    assert mark.exists(), "it could end what it had started"
    assert (tmp_path / "hangs.log").read_text() == "begun\n"
    told = [one["what"] for one in read_findings(tmp_path / FINDINGS)]
    assert told == ["hangs: begins", "hangs: cut off", "runs: begins", "runs: ends"]


def test_outcomes_of_tests_are_findings(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_a(): pass\ndef test_b(): assert 1 == 2\n")
    words = (*schedule._PYTEST, "--rootdir", str(tmp_path), str(tmp_path / "test_it.py"))
    assert schedule.perform(Run(60, (Part("tests", 50, words),)), "cuda", tmp_path) == 1
    found = {one["what"].rpartition("::")[2]: one for one in read_findings(tmp_path / FINDINGS) if "outcome" in one}
    assert found["test_a"]["outcome"] == "passed"
    assert found["test_b"]["outcome"] == "failed"
    assert "assert 1 == 2" in found["test_b"]["why"]


def test_the_probe_measures_every_part_in_a_rehearsal(tmp_path: Path) -> None:
    path, threads = tmp_path / FINDINGS, torch.get_num_threads()
    arguments = ["--device", "cpu", "--new-tokens", "6", "--batches", "1", "2", "--buckets", "--out", str(path)]
    try:
        assert probe.main([*arguments, "--seconds", "500"]) == 0
    finally:
        torch.set_num_threads(threads)
    found = read_findings(path)
    assert [one["what"] for one in found[:2]] == ["machine", "floor: the weights of a decode step read once"]
    assert found[-1] == {**found[-1], "what": "done", "bad": 0}
    steps = [one for one in found if one["what"] == "decode step, growing cache"]
    assert [one["batch"] for one in steps] == [1, 2]
    assert all(one["step_ms"] > 0 and one["times_the_floor"] > 0 for one in steps)
    told = {one["what"] for one in found}
    assert {"first request", "prefill", "rows and record of one answer"} <= told
    assert {"one streamed token beside its step", "prefill of a question on a kept picture"} <= told


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert probe.main([]) == 2
    assert "PyTorch sees none here" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", ["1", "2", "3", "4", "5"])
def test_a_whole_run_in_a_rehearsal(name: str, tmp_path: Path) -> None:
    assert schedule.main([name, "--device", "cpu", "--out", str(tmp_path)]) == 0, os.listdir(tmp_path)
    found = read_findings(tmp_path / FINDINGS)
    assert [one["what"].endswith("ends") for one in found][-1]
    assert len(found) > 4
