"""What lists something: `llava-viewer index`, and what is behind a door, `methods`, `checks`, `families` and the like.

Flow: door -> declarations of this house and of installed packages -> text, or JSON for programs. Nothing that they
declare is loaded, so no torch is needed.
"""

from __future__ import annotations

import argparse
import errno
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from llava_doors.door import CHECKS, FAMILIES, METHODS, Declaration, Door
from llava_doors.proved import proved_for
from llava_eval.criterion import CRITERIA
from llava_eval.metric import METRICS
from llava_viewer.cli.console import Told, json_text, one_line, print_path, printable, say
from llava_viewer.cli.outputs import Outputs
from llava_viewer.files import CACHE, INDEX
from llava_viewer.store.about import is_store
from llava_viewer.store.store import Store
from llava_wire.plain import to_plain
from llava_wire.quantity import Quantity

LISTED: dict[str, tuple[Door, str]] = {
    "methods": (METHODS, "list the methods of looking, with their parameters and what their maps are"),
    "checks": (CHECKS, "list the checks of an answer, with their parameters"),
    "families": (FAMILIES, "list the families of models that can be served"),
    "metrics": (METRICS, "list the metrics by which maps are scored, with their parameters"),
    "criteria": (CRITERIA, "list the criteria by which heads are found, with their parameters"),
}
"""Command -> door and help."""
_OWN_CHECKPOINT = """\
A checkpoint of one of these in the layout of llava-hf is served from its folder: make serve MODEL=FOLDER, or
llava_server.Engine.load(FOLDER). LoRA adapters, LLaVA's own layout, pickled and quantised weights are refused before
anything starts, with the way to convert them: docs/operations.md, Other layouts."""
_PROVED = {"computed": "equal to a second computation for", "replayed": "the same in a replay for"}
"""How a method was shown on families."""
_BELOW = {FAMILIES.group: [_OWN_CHECKPOINT]}
"""What is said below a list, by the door's group."""


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
            print("\n\n".join([*(text(one) for one in declared), *_BELOW.get(door.group, [])]))

    return run


def plain(declaration: Declaration) -> dict[str, Any]:
    """A declaration for programs; of a method of this house also the families that it was shown on."""
    found = to_plain(replace(declaration, traits=dict(declaration.traits)))
    told = {name: found[name] for name in ("name", "summary", "parameters", "quantity", "variants", "traits")}
    families = {how: [*names] for how, names in proved_for(declaration).items()}
    return {**told, "families": families} if families else told


def text(declaration: Declaration) -> str:
    """A declaration for people: name and summary, then what its maps are, its traits, the families that it was shown
    on, and a line for each parameter.
    """
    lines = [f"{one_line(declaration.name)}: {one_line(declaration.summary)}"]
    if declaration.quantity is not None:
        what, over = ("words", "words") if declaration.is_of_text else ("maps", "patches")
        lines.append(one_line(f"  {what}: {_numbers(declaration.quantity, over)}"))
    for variant in declaration.variants:
        numbers = _numbers(variant.quantity, "patches")
        lines.append(one_line(f"  maps with {variant.parameter} {variant.value}: {numbers}"))
    for trait, value in declaration.traits.items():
        lines.append(one_line(f"  {trait.replace('_', ' ')}: {_value(value)}"))
    lines += [f"  {_PROVED[how]}: {_value(names)}" for how, names in proved_for(declaration).items()]
    for one in declaration.parameters:
        kind = " or ".join(one.choices) or one.kind
        lines.append(one_line(f"  {one.name} ({kind}, default {one.default!r}): {one.summary}"))
    return printable("\n".join(lines))


def _numbers(quantity: Quantity, over: str) -> str:
    said = [
        f"{quantity.name}, in {quantity.unit}" if quantity.unit else quantity.name,
        "signed" if quantity.signed else "0 or more",
        f"adds up over {over}" if quantity.additive else f"does not add up over {over}",
    ]
    return "; ".join(said)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple | set | frozenset) else str(value)


def index(arguments: argparse.Namespace) -> None:
    """Lists a folder's runs in one page."""
    from llava_viewer.pages.index import INDEX_NAME, records_of, write_index
    from llava_viewer.pages.index_cache import CACHE_NAME
    from llava_viewer.pages.stored import write_stored_index

    if not arguments.folder.is_dir():
        code = errno.ENOTDIR if arguments.folder.exists() else errno.ENOENT
        raise OSError(code, os.strerror(code), str(arguments.folder))
    stored = is_store(arguments.folder)
    outputs = Outputs(() if stored else records_of(arguments.folder), force=arguments.force)
    outputs.claim("FOLDER", arguments.folder / INDEX_NAME, INDEX, own=True)
    if stored:
        with Store(arguments.folder) as store:
            far = store.how_far()
        if far:
            say(one_line(f"note: {far}"))
        print_path(write_stored_index(arguments.folder, title=arguments.title, told=Told("part")))
        return
    outputs.claim("FOLDER", arguments.folder / CACHE_NAME, CACHE, own=True)
    print_path(write_index(arguments.folder, title=arguments.title, fresh=arguments.fresh))
