"""Packages of somebody else: what pip leaves behind of one, so that its entry points are found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, group: str, points: Mapping[str, str], package: str = "stranger") -> None:
    """Writes a package's entry points as pip does; the folder must be on `sys.path`.

    Args:
        folder: takes the place of site-packages.
        group: of the entry points.
        points: name to "module:attribute".
        package: its name.
    """
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    lines = "\n".join(f"{name} = {value}" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[{group}]\n{lines}\n", encoding="utf-8")
