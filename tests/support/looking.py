"""A method that hands what it sees to whoever tests it, and a way to install methods as packages would."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llava_doors.door import METHODS, Declaration, Parameter
from llava_doors.method import Maps, Method, Needs
from llava_wire.quantity import Quantity

OWN_METHOD = Path(__file__).with_name("own_method.py")
"""The method of docs/own-method.md."""
DECLARATION = Declaration(
    name="probe",
    summary="Hands what it sees to a test.",
    implementation="support.looking:Probe",
    parameters=(Parameter("bytes", "integer", 0, "What it says to need."),),
    quantity=Quantity("nothing", signed=True),
    traits={"heads": False},
)


class Probe(Method):
    """Its needs and what it does are set by the test."""

    declared = Needs()
    look: Any = None

    def needs(self, view: Any, facts: Any) -> Needs:
        return Probe.declared

    def extra_bytes(self, view: Any, facts: Any, reach: Any) -> int:
        return int(view.parameters["bytes"])

    def maps(self, seen: Any, view: Any) -> Any:
        import torch

        made = Probe.look(seen, view) if Probe.look else None
        shape = (len(seen.layout.positions), 1, seen.layout.patches)
        return made if isinstance(made, torch.Tensor | Maps) else torch.zeros(shape)


def install(folder: Path, points: dict[str, str], *modules: Path) -> Path:
    """A folder that a search path can have: modules and the metadata of a distribution with entry points."""
    about = folder / "own_method-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own-method\nVersion: 1.0\n", "utf-8")
    lines = [f"[{METHODS.group}]", *(f"{name} = {value}" for name, value in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n", "utf-8")
    for module in modules:
        shutil.copy(module, folder)
    return folder


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """Within it, what `install` made is part of this process."""
    sys.path.insert(0, str(folder))
    METHODS.forget()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("own_method", None)
        METHODS.forget()
