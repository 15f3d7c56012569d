"""A pytest plugin: each test's outcome is a finding as soon as it is known (`-p bench.gpu.pytest_findings`).

Flow: the environment's LLAVA_GAZE_FINDINGS, a file -> a line per test that passed, failed or was skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.gpu.findings import Journal

VARIABLE = "LLAVA_GAZE_FINDINGS"
_JOURNAL = Journal(Path(os.environ[VARIABLE]), quiet=True, part="tests") if VARIABLE in os.environ else None


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Notes the outcome of a test, and of a setup that did not pass."""
    if _JOURNAL is None or not (report.when == "call" or report.outcome != "passed"):
        return
    why = {} if report.passed else {"why": str(report.longrepr)[-600:]}
    _JOURNAL.note(report.nodeid, outcome=report.outcome, seconds=report.duration, **why)
