"""How the tests are shared out when several processes run them (`make test` uses two), and leave busy machines time.

A process takes whole modules, one after another, and has its own of what lasts for a session, such as the server.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if PROCESSES > 1:
    # Two processes, two cores: more threads would wait for each other. Read when torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A machine that is lent for its GPU may lack hypothesis.
with contextlib.suppress(ImportError):
    from hypothesis import HealthCheck, settings

    # On a busy machine examples take what they take.
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")

os.environ["LLAVA_GAZE_MODEL"] = "llava-shapes"
"""What the tests' servers serve: it answers in milliseconds."""

_FIRST = ("serve", "integration", "browser")
"""Folders whose modules take long; the short ones at the end even the halves out."""


def _place(item: pytest.Item) -> int:
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return _FIRST.index(folder) if folder in _FIRST else len(_FIRST)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if PROCESSES > 1:
        items.sort(key=_place)
