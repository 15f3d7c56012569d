"""How many kernels a piece of work launches.

Flow: callable -> the profiler's kernels and copies (GPU), or the ATen operations that are dispatched, without those
that only describe memory or reserve it (CPU) -> operation -> count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode


class _Counter(TorchDispatchMode):
    """Counts what reaches the dispatcher; views return an alias of an argument that they do not write to."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        aliases = [returned.alias_info for returned in func._schema.returns]
        describes = bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)
        name = func._schema.name.removeprefix("aten::")
        if not describes and not name.startswith(("empty", "new_empty", "_unsafe_view", "detach")):
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def operations(call: Callable[[], object], device: torch.device) -> Counter[str]:
    """Counts the third of three calls, after two that warm up; not for use under inference_mode."""
    for _ in range(2):
        call()
    if device.type == "cuda":
        with profile(activities=[ProfilerActivity.CUDA]) as run:
            call()
            torch.cuda.synchronize()
        return Counter(event.name for event in run.events() if event.device_type == DeviceType.CUDA)
    with _Counter() as counter:
        call()
    return counter.seen
