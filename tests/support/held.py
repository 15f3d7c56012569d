"""How much memory methods hold, as PyTorch's profiler sees it, for tests of what is estimated beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch.profiler import ProfilerActivity, profile

from llava_server.answer import builder


def watched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that gets the most bytes that methods hold at one time, one number for each record made from now on."""
    held: list[int] = []
    real = builder.reduced_views

    def measured(*given: Any) -> Any:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
            found = real(*given)
        events = [one for one in run.profiler.kineto_results.events() if one.name() == "[memory]"]
        held.append(int(np.cumsum([one.nbytes() for one in sorted(events, key=lambda one: one.start_ns())]).max()))
        return found

    monkeypatch.setattr(builder, "reduced_views", measured)
    return held
