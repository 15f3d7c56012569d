"""Packages of somebody else, as far as entry points go: a distribution's metadata in a folder on `sys.path`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llava_doors.door import Door


@contextmanager
def installed(folder: Path, door: Door, value: str) -> Iterator[None]:
    """A door with one more entry point.

    Args:
        folder: an empty one.
        door: whose group it is of.
        value: "module:DECLARATION".
    """
    metadata = folder / "somebody_else-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody-else\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{door.group}]\nmine = {value}\n")
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    door.forget()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        door.forget()
