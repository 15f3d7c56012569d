"""Results files: figures with their interval and target, the machine, the settings and every raw number.

Flow: measurements -> `Figure`s -> `write` -> docs/benchmarks/<name>.json -> `read` -> table.py.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.parts.intervals import Interval
from servekit.paths import ROOT

PUBLISHED = ROOT / "docs" / "benchmarks"
FOLDER_VARIABLE = "LLAVA_GAZE_BENCHMARKS"
FOLDER = Path(os.environ.get(FOLDER_VARIABLE) or PUBLISHED)
"""Where results go; a quick look goes elsewhere than the published figures."""


@dataclass(frozen=True)
class Figure:
    """One number of the table.

    Args:
        name: what was measured, and where: "decode step, default views; 616 tokens".
        value, low, high: the estimate and its 95 % interval; low and high are None for a count or a size.
        unit: "x plain sdpa", "ms", "bytes", ...
        at_most, at_least: the target, if there is one.
        note: what a reader must know, such as what was tried where a target is missed.
    """

    name: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        interval: Interval,
        unit: str,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        note: str = "",
    ) -> Figure:
        """A figure with an interval."""
        return cls(name, interval.value, unit, interval.low, interval.high, at_most, at_least, note)

    @property
    def met(self) -> bool | None:
        """Whether the far end of the interval meets the target; None without one."""
        if self.at_most is not None:
            return (self.value if self.high is None else self.high) <= self.at_most
        if self.at_least is not None:
            return (self.value if self.low is None else self.low) >= self.at_least
        return None


@dataclass(frozen=True)
class Result:
    """A results file.

    Args:
        title: heading of its part of the table.
        what: one or two sentences on how it was measured.
        machine: see `machine`.
        settings: what the script was asked for.
        figures: the rows of the table.
        raw: every number that was measured.
    """

    title: str
    what: str
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    figures: Sequence[Figure]
    raw: Mapping[str, Any]


def machine(device: str = "cpu") -> dict[str, Any]:
    """The machine by its hardware and versions alone: no host name, no path."""
    import torch
    import transformers

    facts: dict[str, Any] = {
        "cpu": _cpu_model(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "gpu": properties.name,
            "gpu_memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
        }
    return facts


def write(path: Path, result: Result) -> None:
    """Writes a results file; numbers are rounded to six significant digits."""
    document = {**dataclasses.asdict(result), "figures": [_compact(figure) for figure in result.figures]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_dump(_rounded(document)) + "\n", encoding="utf-8")


def read(path: Path) -> Result | None:
    """A results file, or None when the file is JSON of another kind."""
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or set(document) != {field.name for field in dataclasses.fields(Result)}:
        return None
    return Result(**{**document, "figures": [Figure(**figure) for figure in document["figures"]]})


def _compact(figure: Figure) -> dict[str, Any]:
    defaults = {field.name: field.default for field in dataclasses.fields(Figure)}
    return {name: value for name, value in dataclasses.asdict(figure).items() if value != defaults[name]}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(entry) for key, entry in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, list | tuple) else value


def _dump(document: Mapping[str, Any]) -> str:
    """JSON with one line per series and one per figure, so that a change of numbers reads well."""
    lines = []
    for key, value in document.items():
        if key == "figures":
            body = ",\n  ".join(json.dumps(entry, ensure_ascii=False) for entry in value)
            lines.append(f' "figures": [\n  {body}\n ]')
        elif key == "raw":
            body = ",\n  ".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in value.items())
            lines.append(f' "raw": {{\n  {body}\n }}')
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
