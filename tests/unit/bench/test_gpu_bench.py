"""The GPU benchmark's own logic, on the CPU with a shrunk configuration; what it times on a GPU is the same code."""

from __future__ import annotations

import shutil

import bench_gpu
import pytest
import torch

from bench.random_llava import published, shrunk
from bench.whole_runs import Timings, copy_bandwidth


@pytest.mark.parametrize("compiled", [False, True])
def test_every_way_is_timed_at_every_batch_size(compiled):
    if compiled and shutil.which("g++") is None:
        pytest.skip("needs a C++ compiler; there is none here")
    batches = [1] if compiled else [1, 2]
    config = shrunk(published("llava-1.5-7b"))
    config.vision_config.image_size = 84
    config.image_seq_length = 36
    rows, raw = bench_gpu.run(
        config,
        torch.device("cpu"),
        torch.float32,
        batches=batches,
        new_tokens=3,
        rounds=2,
        compiled=compiled,
    )
    ways = ["plain sdpa", "engine, default views", "engine, everything unreduced", "eager, output_attentions=True"]
    if compiled:
        ways += ["plain sdpa, compiled", bench_gpu.COMPILED, "engine compiled, everything unreduced"]
    for batch in batches:
        for way in ways:
            timings = raw[f"batch {batch}, {way}"]
            assert len(timings["short"]) == len(timings["long"]) == 2
            assert all(seconds > 0 for seconds in timings["short"] + timings["long"])
    names = [row.name for row in rows]
    assert names[0].startswith("floor")
    assert sum("first token" in name for name in names) == len(ways) * len(batches)
    assert any(row.at_least == bench_gpu.EAGER_GOAL for row in rows) == compiled


def test_time_per_token_is_what_the_longer_answer_adds():
    timings = Timings(short=[1.0, 1.1], long=[1.5, 1.7])
    assert bench_gpu.per_token(timings, 10) == pytest.approx([50.0, 60.0])
    rows = bench_gpu.figures(1, {bench_gpu.COMPILED: timings}, {"eager": "out of memory"}, 50.0, 10)
    assert [row.note for row in rows if row.value != row.value] == ["out of memory"]
    assert [row.met for row in rows if row.at_most] == [True]


def test_bandwidth_counts_both_directions():
    assert 1e8 < copy_bandwidth(torch.device("cpu"), 1 << 22, rounds=3) < 1e13


def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench_gpu.main([]) == 2
    assert "PyTorch sees none here" in capsys.readouterr().err
