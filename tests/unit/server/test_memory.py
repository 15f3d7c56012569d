"""Memory limits: read from the places where Linux keeps them, and every way of running out recognised."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from llava_doors.family import ModelFacts
from llava_server.ask.options import parse_options
from llava_server.ask.plan import make_plan
from llava_server.ask.settings import ModelSettings
from llava_server.fit.estimate import Estimate
from llava_server.fit.room import Room
from llava_server.load.memory import DeviceMemory, cgroup_limits, device_memory, is_out_of_memory
from llava_wire import RequestError

FACTS = ModelFacts(layers=4, heads=8, kv_heads=8, head_dim=16, context=512, cache_bytes_per_value=4)
PLAN = make_plan(parse_options({}), FACTS, ModelSettings())
GIB = 1 << 30


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_cgroup_version_2_takes_every_level_and_counts_file_cache_as_free(tmp_path):
    (tmp_path / "cgroup").write_text("0::/slice/box\n")
    root = tmp_path / "fs"
    group(root / "slice" / "box", memory__max="max", memory__current=5)
    group(root / "slice", memory__max=8 * GIB, memory__current=6 * GIB, memory__stat=f"anon 7\ninactive_file {GIB}")
    assert list(cgroup_limits(tmp_path / "cgroup", root)) == [(8 * GIB, 3 * GIB)]


def test_cgroup_version_1_inside_a_container_finds_its_own_group_at_the_root(tmp_path):
    (tmp_path / "cgroup").write_text("12:pids:/docker/abc\n4:cpu,memory:/docker/abc\n")
    root = tmp_path / "fs"
    group(
        root / "memory",
        memory__limit_in_bytes=2 * GIB,
        memory__usage_in_bytes=GIB,
        memory__stat="inactive_file 1\ntotal_inactive_file 4096",
    )
    assert list(cgroup_limits(tmp_path / "cgroup", root)) == [(2 * GIB, GIB + 4096)]
    (root / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert list(cgroup_limits(tmp_path / "cgroup", root)) == []


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert list(cgroup_limits(tmp_path / "none", tmp_path)) == []


def test_the_cpu_has_memory():
    memory = device_memory(torch.device("cpu"))
    assert 0 < memory.available_bytes <= memory.total_bytes
    assert "on cpu" in str(memory)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: 8"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        OSError(12, "Cannot allocate memory"),
        MemoryError(),
    ],
)
def test_running_out_is_recognised(error: BaseException):
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("CUDA out of memory"), OSError("gone")])
def test_other_errors_are_not_taken_for_it(error: BaseException):
    assert not is_out_of_memory(error)


def test_real_allocations_that_fail_are_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def room(*available: int, shares: tuple[float, ...] = (1.0,), batch_bytes: int = 10_000) -> Room:
    devices = tuple(DeviceMemory(f"cuda:{i}", 9_000, free, "GPU memory") for i, free in enumerate(available))
    return Room(batch_bytes, shares, devices)


def test_a_request_is_held_against_the_limit_and_against_the_device():
    needed = Estimate(1000, 500, 200, 300, 0)
    room(2000).check(needed, PLAN)
    with pytest.raises(RequestError, match=r"got 2000 bytes of device memory, expected 1999; set a smaller"):
        room(5000, batch_bytes=1999).check(needed, PLAN)
    with pytest.raises(RequestError, match=r"got 2000 bytes.*expected 1999 available of 9000 on cuda:0") as caught:
        room(1999).check(needed, PLAN)
    assert caught.value.status == 507
    assert room(4000).holds([needed] * 2)
    assert not room(5999).holds([needed] * 3)
    assert not room(50_000).holds([needed] * 6)


def test_spread_layers_need_their_part_on_each_device():
    needed = Estimate(1000, 600, 200, 300, 0)
    two = room(1000, 1500, shares=(0.25, 0.75))  # 400 + 300 + 200 at home, 1200 + 300 on the other
    two.check(needed, PLAN)
    with pytest.raises(RequestError, match=r"got 1500 bytes.*on cuda:1"):
        room(1000, 1499, shares=(0.25, 0.75)).check(needed, PLAN)
    with pytest.raises(RequestError, match=r"got 900 bytes.*on cuda:0"):
        room(899, 1500, shares=(0.25, 0.75)).check(needed, PLAN)
