"""How the tests are shared out when several processes run them (`make test` uses two), and leave busy machines time.

Flow: collected tests -> what takes long first -> units that one process runs in order: a module, or, over module
borders, the tests that share something dear (the session's server, compiled models).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadGroupScheduling

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

_SHARED = {"asker": "server", "static_engine": "static", "static_grouped": "static"}
"""Fixtures of the whole session that are dear to make, and the unit of the tests that use them."""
_FIRST = ("serve", "integration", "browser")
"""Folders whose units are large; the small ones at the end even the halves out."""


def _place(item: pytest.Item) -> int:
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return _FIRST.index(folder) if folder in _FIRST else len(_FIRST)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if PROCESSES == 1:
        return
    items.sort(key=_place)
    for item in items:
        for name in dict.fromkeys(_SHARED[name] for name in getattr(item, "fixturenames", ()) if name in _SHARED):
            item.add_marker(pytest.mark.xdist_group(name))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadGroupScheduling | None:
    from xdist.scheduler import LoadGroupScheduling

    class Units(LoadGroupScheduling):
        """Marked groups stay together, and the rest of each module."""

        def _split_scope(self, nodeid: str) -> str:
            return super()._split_scope(nodeid).partition("::")[0]

    return Units(config, log) if config.getvalue("dist") == "loadgroup" else None
