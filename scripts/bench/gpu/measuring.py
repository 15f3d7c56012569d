"""How long something takes for the caller, for the host and for the device, and where the host waits for the device.

Flow: a function -> `Stopwatch` on its device -> milliseconds, kernels, places of waiting. Without a GPU the figures of
the device are zero and the rest is the same code.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch


@dataclass(frozen=True)
class Spent:
    """Milliseconds until the device was done, and until the host had only handed over (medians)."""

    ms: float
    host_ms: float


class Stopwatch:
    """Times functions on one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.is_gpu = device.type == "cuda"

    def wait(self) -> None:
        """Until the device has done everything."""
        if self.is_gpu:
            torch.cuda.synchronize(self.device)

    def spent(self, work: Callable[[], object], times: int = 5) -> Spent:
        """Of so many calls."""
        whole, host = [], []
        for _ in range(times):
            self.wait()
            begin = time.perf_counter()
            work()
            handed_over = time.perf_counter()
            self.wait()
            whole.append(1e3 * (time.perf_counter() - begin))
            host.append(1e3 * (handed_over - begin))
        return Spent(median(whole), median(host))

    def busy(self, work: Callable[[], object]) -> tuple[float, int]:
        """Milliseconds of kernels and copies on the device during one call, and how many there were."""
        if not self.is_gpu:
            work()
            return 0.0, 0
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as profiled:
            work()
            self.wait()
        events = [event for event in profiled.key_averages() if event.self_device_time_total > 0]
        return sum(event.self_device_time_total for event in events) / 1e3, sum(event.count for event in events)

    def waits(self, work: Callable[[], object]) -> dict[str, int]:
        """Where the host waited for the device during one call: file and line -> times."""
        if not self.is_gpu:
            work()
            return {}
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        places = (warned for warned in caught if "synchron" in str(warned.message))
        return dict(Counter(f"{_module(warned.filename)}:{warned.lineno}" for warned in places))


def _module(path: str) -> str:
    for root in ("/handler/", "/site-packages/"):
        path = path.rpartition(root)[2]
    return path
