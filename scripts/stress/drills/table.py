"""The drills' results as the tables of docs/operations.md.

Flow: docs/benchmarks/faults.json and loads.json -> Markdown between marks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

BEGIN, END = "<!-- faults: written by python -m stress.drill -->", "<!-- faults: end -->"
LOADS_BEGIN, LOADS_END = "<!-- loads: written by python -m stress.drill -->", "<!-- loads: end -->"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of finished drills."""
    heads = ("fault", "a client that sends nothing twice saw", "recovery, s", "slowest request, s", "lost with retries")
    lines = [f"| {' | '.join(heads)} |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {row['fault']} | {_seen(row)} | {row['recovery_s']:g} | {row['slowest_s']:g} "
        f"| {row['lost']} of {row['asked']} |"
        for row in rows
    ]
    return "\n".join(lines)


def load_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of loads, a row each."""
    heads = (
        "load", "runs", "its senders saw", "small requests beside it saw", "slowest, s",
        "with retries, in 30 s", "ended", "most MB (Java, front, worker)", "claims",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    lines += [
        f"| {row['words']} | {row['runs']} | {_counted(row['load']) or '-'} | {_counted(row['bare'])} "
        f"| {row['bare_slowest_s']:g} | {row['patient_within']} of {row['patient_asked']} "
        f"| {_counted({kind: count for kind, count in row['ended'].items() if count}) or 'none'} "
        f"| {', '.join(f'{peak_mb:.0f}' for peak_mb in row['peaks_mb'].values())} "
        f"| {'hold' if not row['failures'] else '; '.join(row['failures'])} |"
        for row in rows
    ]
    return "\n".join(lines)


def replaced(document: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The document with the table of faults between its marks."""
    return _between(document, BEGIN, END, table(rows))


def loads_replaced(document: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The document with the table of loads between its marks."""
    return _between(document, LOADS_BEGIN, LOADS_END, load_table(rows))


def _between(document: str, begin: str, end: str, text: str) -> str:
    before, rest = document.split(begin)
    after = rest.split(end)[1]
    return f"{before}{begin}\n{text}\n{end}{after}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in counts.items())


def _seen(row: Mapping[str, Any]) -> str:
    parts = [
        f"{way}: " + ", ".join(f"{count} {word}" for word, count in sorted(words.items()))
        for way, words in row["bare"].items()
        if words
    ]
    seen = "; ".join(parts) or "right answers only"
    return f"{seen}. {row['note'][0].upper()}{row['note'][1:]}" if row["note"] else seen
