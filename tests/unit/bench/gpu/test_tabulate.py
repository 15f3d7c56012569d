"""A results file of findings: each number of the probe is a row, tests are counted, what failed is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.gpu import tabulate
from bench.parts.results import machine, read

FINDINGS = [
    {"part": "schedule", "at_s": 0.0, "what": "probe: begins", "limit_s": 194},
    {"part": "tests", "at_s": 1.0, "what": "test_a", "outcome": "passed", "seconds": 1.0},
    {"part": "tests", "at_s": 2.0, "what": "test_b", "outcome": "failed", "seconds": 1.0, "why": "assert 1 == 2"},
    {"part": "probe", "at_s": 0.0, "what": "machine", **machine()},
    {"part": "probe", "at_s": 3.0, "what": "decode step", "batch": 8, "step_ms": 9.5, "kernels": 649,
     "waits": {"a.py:1": 2, "b.py:3": 1}},
    {"part": "probe", "at_s": 4.0, "what": "rows: cut off", "error": "got more than 30 s"},
]  # fmt: skip


def written(tmp_path: Path, findings: list[dict]) -> tuple[int, Path]:
    file, out = tmp_path / "findings.jsonl", tmp_path / "out.json"
    file.write_text("".join(json.dumps(one) + "\n" for one in findings))
    return tabulate.main([str(file), "--out", str(out)]), out


def test_numbers_become_rows_and_everything_stays_raw(tmp_path: Path) -> None:
    code, out = written(tmp_path, FINDINGS)
    assert code == 0
    result = read(out)
    assert result is not None
    assert [(row.name, row.value, row.unit, row.note) for row in result.figures] == [
        ("tests/gpu", 1, "passed of 2", ""),
        ("decode step, batch 8", 9.5, "ms", "the host waits for the device 3 times"),
        ("decode step, batch 8", 649, "kernels", ""),
    ]
    assert "Not measured: rows: cut off (got more than 30 s)." in result.what
    assert result.machine["cores"] == machine()["cores"]
    assert list(result.raw.values()) == FINDINGS


def test_without_the_machine_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = written(tmp_path, FINDINGS[:3])
    assert (code, out.exists()) == (2, False)
    assert "findings: got none that names a machine, expected those of the probe" in capsys.readouterr().err
