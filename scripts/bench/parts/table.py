"""The table of all benchmarks from their results files.

Flow: docs/benchmarks/*.json -> `render` -> docs/benchmarks/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.parts.results import Figure, Result, read

_INTRODUCTION = """# Benchmarks

Made by `python -m bench.table` from the JSON files of this folder, which hold every raw number; `make bench` measures
all of them again, in about an hour and 40 minutes on two cores that do nothing else (`make bench QUICK=1`: fewer
repetitions, into out/benchmarks). Ratios are medians of paired runs in random order with their 95 % bootstrap interval.
A target is met when the far end of the interval meets it.
"""

_HEAD = ["| | figure | 95 % interval | target | |", "| --- | ---: | :---: | :---: | --- |"]
_NO_GPU = """## LLaVA-1.5-7B on a GPU

Not measured yet: no GPU was at hand. `make gpu` is the schedule for one
([operations.md](../operations.md#short-gpu-runs)), and `make bench` measures it where there is a GPU
(`python -m bench.gpu.answers`).
"""


def render(folder: Path) -> str:
    """The Markdown of all results files in a folder, in the order of their names."""
    parts, others = [_INTRODUCTION], []
    results = {path.name: read(path) for path in sorted(folder.glob("*.json"))}
    parts.append(targets([result for result in results.values() if result is not None]))
    for name, result in results.items():
        if result is None:
            others.append(f"[{name}]({name})")
        else:
            parts.append(section(name, result))
    if not any(result is not None and "gpu" in result.machine for result in results.values()):
        parts.append(_NO_GPU)
    if others:
        parts.append(f"Raw numbers without a table of their own: {', '.join(others)}.\n")
    return "\n".join(parts)


def targets(results: Sequence[Result]) -> str:
    """Everything that has a target, missed ones first, with how many were met."""
    found = [(result.title, figure) for result in results for figure in result.figures if figure.met is not None]
    met = sum(figure.met is True for _, figure in found)
    lines = ["## Targets", "", f"{met} of {len(found)} met.", "", *_HEAD]
    for title, figure in sorted(found, key=lambda pair: pair[1].met is True):
        lines.append(_row(replace(figure, name=f"{title}: {figure.name}", note="")))
    return "\n".join(lines) + "\n"


def section(name: str, result: Result) -> str:
    """One results file as a heading, its conditions and its table."""
    lines = [f"## {result.title}", "", result.what, "", f"{machine_line(result.machine)} [{name}]({name})", ""]
    lines += _HEAD
    lines += [_row(figure) for figure in result.figures]
    return "\n".join(lines) + "\n"


def machine_line(machine: Mapping[str, Any]) -> str:
    """The machine in one sentence."""
    threads = machine["threads"]
    words = [
        f"{machine['cpu']} ({machine['capability']})",
        f"{machine['cores']} cores, {threads} thread{'' if threads == 1 else 's'}",
        f"torch {machine['torch']}",
    ]
    if "gpu" in machine:
        words.insert(0, f"{machine['gpu']}, CUDA {machine['cuda']}")
    return ", ".join(words) + "."


def number(value: float) -> str:
    """A number with as many digits as a reader can use: thousands apart, three decimals near one."""
    if value != value:
        return "not a number"
    if float(value).is_integer() and abs(value) >= 10:
        return f"{value:,.0f}"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size == 0:
        return "0"
    return f"{value:.3f}" if size >= 0.1 else f"{value:.2g}"


def _row(figure: Figure) -> str:
    verdict = {True: "met", False: "**missed**", None: ""}[figure.met]
    remarks = "; ".join(part for part in (verdict, figure.note) if part)
    cells = (figure.name, f"{number(figure.value)} {figure.unit}".strip(), _interval(figure), _target(figure), remarks)
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _interval(figure: Figure) -> str:
    return "" if figure.low is None or figure.high is None else f"{number(figure.low)} to {number(figure.high)}"


def _target(figure: Figure) -> str:
    if figure.at_most is not None:
        return f"≤ {number(figure.at_most)}"
    return f"≥ {number(figure.at_least)}" if figure.at_least is not None else ""


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
