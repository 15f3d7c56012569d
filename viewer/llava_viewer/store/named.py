"""How a record is named: a file, or STORE::ID for one in a store.

Flow: what a command line says -> the file's bytes or the store's -> `Record`.
"""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from llava_viewer.look.text import visible
from llava_viewer.store.about import RUN, is_store
from llava_viewer.store.part import StoreError
from llava_viewer.store.store import PARTS, Store
from llava_wire.container import decode, read_file
from llava_wire.record import Record

MARK = "::"
_MOST_NAME_BYTES = 240
"""Of a file's name, most file systems take 255."""


def in_store(path: Path) -> tuple[Path, str] | None:
    """The store and the id that `STORE::ID` names; None for anything else, such as a file of that very name."""
    text = str(path)
    if MARK not in text or os.path.isfile(path):
        return None
    at = text.find(MARK)
    while at >= 0:
        folder = Path(text[:at])
        if is_store(folder):
            return folder, text[at + len(MARK) :]
        at = text.find(MARK, at + 1)
    return None


def read_named(path: Path, *, picture: bool = True) -> tuple[Record, int]:
    """The record that a path or `STORE::ID` names, and its size in bytes.

    One of a store comes with what the data says of its answer, and with its image where that is still there.

    Args:
        path: as it was written.
        picture: whether a stored one's image is looked for.

    Raises:
        RecordError, StoreError, OSError: there is none, or it cannot be read.
    """
    found = in_store(path)
    if found is None:
        if is_store(path):
            raise StoreError(
                f"{path}: got the folder of a run, expected a record; name one of its items: {path}{MARK}ID"
            )
        data = read_file(path)
        return decode(data), len(data)
    folder, id = found
    changed = (folder / PARTS).stat().st_mtime_ns if (folder / PARTS).exists() else 0
    with _opened(folder, folder.resolve(), changed, (folder / RUN).stat().st_mtime_ns) as store:
        id = _as_stored(store, id)
        return store.record_of(store.row(id), picture=picture), len(store.read(id))


def _as_stored(store: Store, id: str) -> str:
    """The id that is meant by one that was read as a path, which keeps no doubled, closing or needless slashes."""
    if id in store:
        return id
    meant = [one for one in store if "/" in one and str(Path(f"{MARK}{one}")) == f"{MARK}{id}"]
    return meant[0] if len(meant) == 1 else id


@functools.lru_cache(maxsize=4)
def _opened(folder: Path, place: Path, parts_changed: int, run_changed: int) -> Store:
    """A store whose ids are looked up once for all records that are read of it, until a part is added."""
    return Store(folder)


def render_command(id: str) -> str:
    """The command that makes a stored record's page, inside the store's folder; "" for an id that cannot be shown."""
    return f"llava-viewer render {shlex.quote(f'.{MARK}{id}')} -o report.html" if visible(id) == id else ""


def name_of(path: Path) -> str:
    """What a named record is called: a file's name, a stored one's id."""
    found = in_store(path)
    return path.name if found is None else found[1]


def names_of(paths: Sequence[Path]) -> list[str]:
    """What several are called beside each other: as each alone, or with their folders where those tell two apart."""
    whole = [os.path.abspath(path) for path in paths]
    names = [name_of(path) for path in paths]
    if len(set(names)) == len(set(whole)):
        return names
    common = os.path.commonpath([os.path.dirname(path) for path in whole])
    return [os.path.relpath(path, common) for path in whole]


def page_of(path: Path) -> Path:
    """Where a named record's page goes unless somebody says: beside a file; of a stored one, the present folder."""
    found = in_store(path)
    if found is None:
        return path.with_suffix(".html")
    return Path(found[1].replace("/", "_")[:100].encode()[:_MOST_NAME_BYTES].decode(errors="ignore") + ".html")
