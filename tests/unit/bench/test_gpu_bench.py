"""The GPU benchmark's own logic, on the CPU with a shrunk configuration; what it times on a GPU is the same code."""

from __future__ import annotations

import shutil
import time
import types

import pytest
import torch

from bench.gpu import answers
from bench.gpu.findings import Journal, read_findings
from bench.parts.random_llava import published, rehearsal
from bench.parts.whole_runs import OUT_OF_TIME, Runner, Timings, copy_bandwidth, measure


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.long)])
def test_every_way_is_timed_at_every_batch_size(compiled, tmp_path):
    if compiled and shutil.which("g++") is None:
        pytest.skip("needs a C++ compiler; there is none here")
    batches = [1] if compiled else [1, 2]
    config = rehearsal(published("llava-1.5-7b"))
    kept: list[int] = []
    rows, raw = answers.run(
        config,
        torch.device("cpu"),
        torch.float32,
        batches=batches,
        new_tokens=3,
        rounds=2,
        compiled=compiled,
        journal=Journal(tmp_path / "findings.jsonl", quiet=True),
        keep=lambda so_far, _: kept.append(len(so_far)),
    )
    ways = ["plain sdpa", "engine, default views", "engine, everything unreduced", "eager, output_attentions=True"]
    if compiled:
        ways += ["plain sdpa, compiled", answers.COMPILED, "engine compiled, everything unreduced"]
    for batch in batches:
        for way in ways:
            timings = raw[f"batch {batch}, {way}"]
            assert len(timings["short"]) == len(timings["long"]) == 2
            assert all(seconds > 0 for seconds in timings["short"] + timings["long"])
    told = read_findings(tmp_path / "findings.jsonl")
    assert [one["what"] for one in told if "rough_ms_per_token" in one] == ways * len(batches)
    assert len(kept) == len(batches), "what was measured is kept after each batch size"
    assert kept[-1] == len(rows)
    names = [row.name for row in rows]
    assert names[0].startswith("floor")
    assert sum("first token" in name for name in names) == len(ways) * len(batches)
    assert any(row.at_least == answers.EAGER_GOAL for row in rows) == compiled


def test_time_per_token_is_what_the_longer_answer_adds():
    timings = Timings(short=[1.0, 1.1], long=[1.5, 1.7])
    assert answers.per_token(timings, 10) == pytest.approx([50.0, 60.0])
    rows = answers.figures(1, {answers.COMPILED: timings}, {"eager": "out of memory"}, 50.0, 10)
    assert [row.note for row in rows if row.value != row.value] == ["out of memory"]
    assert [row.met for row in rows if row.at_most] == [True]


def test_when_time_is_up_no_round_is_begun_and_the_rest_is_said_to_be_left_out():
    model = types.SimpleNamespace(device=torch.device("cpu"), set_attn_implementation=lambda kinds: None)
    ways = {name: Runner("sdpa", lambda batch, length: time.sleep(0.02)) for name in ("one", "other")}
    begin = time.perf_counter()
    found, left_out = measure(model, ways, 1, 1, 2, 10_000, until=begin + 1)
    assert time.perf_counter() - begin < 60
    assert 1 <= len(found["one"].long) == len(found["other"].short) < 10_000
    assert left_out == {}
    found, left_out = measure(model, ways, 1, 1, 2, 3, until=begin)
    assert (found, left_out) == ({}, {"one": OUT_OF_TIME, "other": OUT_OF_TIME})


def test_a_rehearsal_is_no_published_figure(capsys):
    assert answers.main(["--device", "cpu"]) == 2
    assert "--out" in capsys.readouterr().err


def test_bandwidth_counts_both_directions():
    assert 1e8 < copy_bandwidth(torch.device("cpu"), 1 << 22, rounds=3) < 1e13


def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert answers.main([]) == 2
    assert "PyTorch sees none here" in capsys.readouterr().err
