"""What memory a device has, and what to do when it runs out.

Flow: settings -> device -> `DeviceMemory` (total and available bytes, and which limit decides) -> checks at load and
per batch; an exception of any kind -> `is_out_of_memory` -> `release` -> a refusal with numbers, no dead worker.
"""

from __future__ import annotations

import gc
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil
import torch

from llava_server.ask.settings import ModelSettings, SettingsError

_SIGNS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "Triton Error [CUDA]: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "std::bad_alloc",
    "Cannot allocate memory",
)
"""What torch and the system say in a plain RuntimeError or OSError when there is no memory; cuBLAS is not initialised
when its handle has no room."""


def device_of(settings: ModelSettings, wanted: str | None = None) -> str:
    """The device that is asked for, or that the settings mean on this machine.

    Raises:
        SettingsError: for a GPU that is not there.
    """
    device = wanted or settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SettingsError(f"device: got {device!r}, expected 'cpu': PyTorch sees no CUDA device; set device: cpu")
    return device


@dataclass(frozen=True)
class DeviceMemory:
    """The memory of one device.

    Args:
        device: "cpu", "cuda:0", ...
        total_bytes: all of it, as far as this process may use it.
        available_bytes: what can be allocated now, memory that the allocator holds unused included.
        limit: what decides `available_bytes`: "free memory", "cgroup limit", "address space limit" or "GPU memory".
    """

    device: str
    total_bytes: int
    available_bytes: int
    limit: str

    def __str__(self) -> str:
        return f"{self.available_bytes} available of {self.total_bytes} on {self.device} ({self.limit})"


def device_memory(device: torch.device) -> DeviceMemory:
    """Asks the device itself.

    Args:
        device: a CPU or CUDA device; any other counts as the CPU, whose memory it most likely shares.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return DeviceMemory(str(device), total, free + unused, "GPU memory")
    host = psutil.virtual_memory()
    limits = [("free memory", host.total, host.available)]
    limits += [("cgroup limit", total, available) for total, available in cgroup_limits()]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(("address space limit", soft, soft - psutil.Process().memory_info().vms))
    limit, _, available = min(limits, key=lambda entry: entry[2])
    return DeviceMemory("cpu", min(total for _, total, _ in limits), max(0, available), limit)


def cgroup_limits(
    proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> Iterator[tuple[int, int]]:
    """(limit, available) in bytes of every control group above this process that limits memory, version 1 or 2.

    Args:
        proc: the file that names the groups of this process.
        root: where the groups are mounted. Inside a container it often is the process's own group.
    """
    try:
        lines = proc.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        group = PurePosixPath(path)
        for parent in (group, *group.parents):
            folder = base / str(parent).lstrip("/")
            try:
                limit, used = (int((folder / name).read_text(encoding="utf-8")) for name in names)
            except (OSError, ValueError):  # not visible in here, or "max"
                continue
            if limit < 1 << 60:  # version 1 writes "no limit" as a huge number
                yield limit, max(0, limit - used + _reclaimable(folder / "memory.stat"))


def _reclaimable(stat: Path) -> int:
    """Bytes of file cache that the kernel gives up before it refuses memory."""
    try:
        rows = dict(line.split() for line in stat.read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError):
        return 0
    return int(rows.get("total_inactive_file", rows.get("inactive_file", 0)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the device or the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and any(sign in str(error) for sign in _SIGNS)


def release() -> None:
    """Gives back what failed runs left behind; call it when no traceback holds their tensors any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
