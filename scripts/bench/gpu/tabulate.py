"""Makes a results file for docs/benchmarks of the findings of a GPU's minutes.

Flow: findings.jsonl of one or several runs of the schedule -> tests as one count, the probe's numbers as rows -> a
results file, every finding in it as a raw number.
Example: python -m bench.gpu.tabulate out/gpu/findings.jsonl --out docs/benchmarks/gpu-probe.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.gpu.findings import read_findings
from bench.parts.results import Figure, Result, write

_UNITS = {
    "step_ms": "ms", "ms": "ms", "vision_ms": "ms, vision tower alone", "device_busy_ms": "ms, the device's own time",
    "encode_ms": "ms, its bytes", "seconds": "s", "times_the_floor": "x the floor", "floor_ms": "ms",
    "kernels": "kernels",
}  # fmt: skip
"""The facts of a finding that become rows, with their units."""


def tabulated(findings: Sequence[dict[str, Any]]) -> Result:
    """The results of findings, those of the probe as rows.

    Raises:
        ValueError: without the finding that names the machine.
    """
    machines = [one for one in findings if one["what"] == "machine"]
    if not machines:
        raise ValueError("findings: got none that names a machine, expected those of the probe; add run 1's file")
    about = {name: value for name, value in machines[0].items() if name not in ("part", "at_s", "what")}
    tests = [one for one in findings if "outcome" in one]
    passed = sum(one["outcome"] == "passed" for one in tests)
    rows = [Figure("tests/gpu", passed, f"passed of {len(tests)}")] if tests else []
    for one in findings:
        if one.get("part") == "probe" and one is not machines[0]:
            rows += _rows(one)
    what = (
        "LLaVA-1.5-7B at its real configuration, random weights in bfloat16, 616 prompt tokens, one run of the probe: "
        "single numbers, not medians. The device's own time is that of its kernels; what a step takes beyond it, the "
        "host spends on starting them. tests/gpu: the small model against the CPU, the real configuration, a server."
    )
    failed = [f"{one['what']} ({one['error']})" for one in findings if "error" in one]
    what += f" Not measured: {'; '.join(failed)}." if failed else ""
    raw = {f"{number:03d} {one['what']}": one for number, one in enumerate(findings)}
    return Result("Where the time goes on a GPU", what, about, {}, rows, raw)


def _rows(one: dict[str, Any]) -> list[Figure]:
    where = "".join(f", {word} {one[word]}" for word in ("batch", "views") if word in one)
    waits = sum(one.get("waits", {}).values())
    note = f"the host waits for the device {waits} times" if waits else ""
    found = [(name, one[name]) for name in _UNITS if name in one]
    return [
        Figure(one["what"] + where, value, _UNITS[name], note=note if number == 0 else "")
        for number, (name, value) in enumerate(found)
    ]


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 when written; 2 where the findings name no machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("findings", type=Path, nargs="+", help="findings files, that of run 1 among them")
    parser.add_argument("--out", type=Path, required=True, help="results file, such as docs/benchmarks/gpu-probe.json")
    given = parser.parse_args(arguments)
    try:
        result = tabulated([one for path in given.findings for one in read_findings(path)])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write(given.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
