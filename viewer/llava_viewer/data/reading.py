"""Data of any kind: the kind that fits a path best opens it.

Flow: path -> every kind behind the door says how well it fits -> the best one -> `Data`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from llava_viewer.data.columns import FIELDS
from llava_viewer.data.kind import KINDS, NO, Asked, Data, DataError, Kind
from llava_wire.errors import nearest


def read_data(path: Path, columns: Mapping[str, str], images: Path | None = None, *, needs_images: bool = True) -> Data:
    """Opens the data of a run.

    Args:
        path: a file or folder, or what a kind takes for several, such as shards-{000..011}.tar.
        columns: what a column means (one of `FIELDS`) -> its name; "" for none.
        images: the folder that paths of images count from; None for the data's own.
        needs_images: whether data without a column of images is refused.

    Raises:
        DataError: it is of no known kind, or of several, or has no such column.
        OSError: it cannot be read.
    """
    for name in columns:
        if name not in FIELDS:
            raise DataError(f"--column: got {name!r}, expected {', '.join(FIELDS)}{nearest(name, FIELDS)}")
    data = _kind_of(path).read(Asked(path, columns, images, needs_images))
    if columns and not data.columns:
        raise DataError(f"--column: got it for {data.kind}, which has no columns, expected none; leave it out")
    return data


def is_data(path: Path) -> bool:
    """Whether a path is there, or is what a kind takes for several files."""
    return path.exists() or bool(_fitting(path)[0])


def _kind_of(path: Path) -> Kind:
    most, names = _fitting(path)
    if len(names) == 1:
        found: Kind = KINDS.load(names[0])
        return found
    known = "; ".join(one.summary.rstrip(".") for one in KINDS.known().values())
    if most > NO:
        raise DataError(f"{path}: got what may be {' or '.join(names)}, expected one kind; name a file of it")
    if path.is_dir():
        raise DataError(f"{path}: got a folder without images and shards, expected one of: {known}")
    raise DataError(f"{path}: got a name that ends in {path.suffix!r}, expected one of: {known}")


def _fitting(path: Path) -> tuple[int, list[str]]:
    """How well the best kinds fit, and which they are."""
    fits = {name: KINDS.load(name).fits(path) for name in KINDS.known()}
    most = max(fits.values())
    return most, [name for name, fit in fits.items() if fit == most] if most > NO else []
