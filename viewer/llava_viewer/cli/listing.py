"""What is behind a door, listed: `llava-viewer methods`, `families` and `metrics`, from declarations alone.

Flow: door -> declarations of this house and of installed packages -> text, or JSON for programs. Nothing that they
declare is loaded, so no torch is needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from llava_doors.door import FAMILIES, METHODS, Declaration, Door
from llava_eval.metric import METRICS
from llava_viewer.cli.console import json_text, one_line, printable
from llava_wire.plain import to_plain

LISTED: dict[str, tuple[Door, str]] = {
    "methods": (METHODS, "list the methods of looking, with their parameters and what their maps are"),
    "families": (FAMILIES, "list the families of models that can be served"),
    "metrics": (METRICS, "list the metrics by which maps are scored, with their parameters"),
}
"""Command -> door and help."""


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """The arguments of one listing command."""
    parser.set_defaults(run=_command(LISTED[name][0]))
    parser.add_argument("--json", action="store_true", help="for programs")


def _command(door: Door) -> Callable[[argparse.Namespace], None]:
    def run(arguments: argparse.Namespace) -> None:
        declared = door.known().values()
        if arguments.json:
            print(json_text([plain(one) for one in declared]))
        elif not declared:
            print(f"none; a package adds one with an entry point of the group {door.group}")
        else:
            print("\n\n".join(text(one) for one in declared))

    return run


def plain(declaration: Declaration) -> dict[str, Any]:
    """A declaration for programs."""
    found = to_plain(replace(declaration, traits=dict(declaration.traits)))
    return {name: found[name] for name in ("name", "summary", "parameters", "quantity", "traits")}


def text(declaration: Declaration) -> str:
    """A declaration for people: name and summary, then what its maps are, its traits, and a line for each parameter."""
    lines = [f"{one_line(declaration.name)}: {one_line(declaration.summary)}"]
    if (quantity := declaration.quantity) is not None:
        said = [
            f"{quantity.name}, in {quantity.unit}" if quantity.unit else quantity.name,
            "signed" if quantity.signed else "0 or more",
            "adds up over patches" if quantity.additive else "does not add up over patches",
        ]
        lines.append(one_line(f"  maps: {'; '.join(said)}"))
    for trait, value in declaration.traits.items():
        lines.append(one_line(f"  {trait.replace('_', ' ')}: {_value(value)}"))
    for one in declaration.parameters:
        lines.append(one_line(f"  {one.name} ({one.kind}, default {one.default!r}): {one.summary}"))
    return printable("\n".join(lines))


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple | set | frozenset) else str(value)
