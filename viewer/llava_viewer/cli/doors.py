"""Lists what came in by a door: methods, families, metrics, of this installation and of other packages.

Flow: door -> declarations -> a table on stdout, or JSON.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from llava_doors.door import Declaration, Door
from llava_eval.metric import METRICS
from llava_viewer.cli.console import json_text, one_line, table
from llava_wire.schema import to_plain


def metrics(arguments: argparse.Namespace) -> None:
    """Lists the metrics."""
    list_door(METRICS, arguments)


def list_door(door: Door, arguments: argparse.Namespace) -> None:
    """Prints all declarations of a door: names, traits, parameters with their defaults, quantities.

    Args:
        door: whose.
        arguments: `json`: for programs.

    Raises:
        DoorError: an installed package declares what cannot be.
    """
    known = sorted(door.known().values(), key=lambda one: one.name)
    if arguments.json:
        print(json_text([to_plain(replace(one, traits=dict(one.traits))) for one in known]))
        return
    traits = sorted({trait for one in known for trait in one.traits})
    measured = any(one.quantity for one in known)
    head = (door.what, *(trait.replace("_", " ") for trait in traits), *(["quantity"] if measured else []))
    rows = [(*head, "parameters", "what it is")]
    for one in known:
        cells = [one.name, *(_value(one.traits.get(trait)) for trait in traits)]
        quantity = [_quantity(one)] if measured else []
        parameters = ", ".join(f"{each.name}={each.default}" for each in one.parameters)
        rows.append(tuple(one_line(cell) for cell in (*cells, *quantity, parameters or "-", one.summary)))
    print("\n".join(table(rows)))


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple | set | frozenset) else str(value)


def _quantity(one: Declaration) -> str:
    if one.quantity is None:
        return "-"
    signed = ", signed" if one.quantity.signed else ""
    return f"{one.quantity.name} ({one.quantity.unit or 'number'}{signed})"
