"""The drills' results as the table of docs/operations.md.

Flow: docs/benchmarks/faults.json -> Markdown between two marks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

BEGIN, END = "<!-- faults: written by scripts/fault_drill.py -->", "<!-- faults: end -->"


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


def replaced(document: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The document with the table between its marks."""
    before, rest = document.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{table(rows)}\n{END}{after}"


def _seen(row: Mapping[str, Any]) -> str:
    parts = [
        f"{way}: " + ", ".join(f"{count} {word}" for word, count in sorted(words.items()))
        for way, words in row["bare"].items()
        if words
    ]
    seen = "; ".join(parts) or "right answers only"
    return f"{seen}. {row['note'][0].upper()}{row['note'][1:]}" if row["note"] else seen
