"""A store read: any record by its item's id, rows in order, and records as every command shows them.

Flow: folder -> the parts that are finished -> ids with their places (from table.parquet while it is of these parts,
else from the parts' rows) -> `read(id)`: one `pread`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from PIL import Image as PillowImage

from llava_viewer.data.images import image_bytes
from llava_viewer.look.picture import PictureError, check_picture, open_picture, prepare_picture
from llava_viewer.store.about import About, read_about
from llava_viewer.store.part import Row, StoreError, read_rows, record_at
from llava_viewer.store.rows import annotations_of
from llava_viewer.store.table import PLACE, places_in_table
from llava_wire.container import decode
from llava_wire.errors import nearest
from llava_wire.record import Record

PARTS = "parts"
"""The folder of a store that holds its parts, `000000.tar` and so on."""
_MOST_OPEN, _MOST_COMPARED = 256, 10_000
"""Parts that are open at a time; ids that a misspelt one is compared with."""


class Place(NamedTuple):
    """Where an item's record lies: its number, the part's, and bytes; None where the item has an error instead."""

    n: int
    part: int
    offset: int | None
    size: int | None


def part_path(folder: Path, number: int) -> Path:
    """Where a part of a store lies."""
    return folder / PARTS / f"{number:06}.tar"


def part_paths(folder: Path) -> list[Path]:
    """The finished parts of a store, in order."""
    found = (path for path in (folder / PARTS).glob("*.tar") if path.stem.isdecimal() and not path.is_symlink())
    return sorted(found, key=lambda path: int(path.stem))


class Store:
    """The records of a dataset run, by the ids of its items; a context manager that closes what it opened.

    Args:
        path: the folder that `llava-viewer run` wrote, or still writes: what is finished is there.

    Raises:
        StoreError: it is no store, or a part of it is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.about: About = read_about(self.path)
        self.parts = part_paths(self.path)
        self._open: dict[int, int] = {}
        self._places: dict[str, Place] | None = None
        self._last: tuple[int, dict[str, Row]] = (-1, {})

    def __len__(self) -> int:
        return len(self._found())

    def __iter__(self) -> Iterator[str]:
        """The ids, in the order of the items."""
        return iter(self._found())

    def __contains__(self, id: object) -> bool:
        return id in self._found()

    def read(self, id: str) -> bytes:
        """The file of one item's record, as the server or engine wrote it.

        Raises:
            StoreError: there is no such item, it has an error in place of a record, or the part is damaged.
        """
        place = self._place(id)
        if place.offset is None or place.size is None:
            raise _no_record(self.row(id))
        return self._bytes(place)

    def read_at(self, row: Row) -> bytes:
        """The record's file of an item whose row is known already.

        Raises:
            StoreError: the item has an error in place of a record, or the part is damaged.
        """
        if row["offset"] is None:
            raise _no_record(row)
        return self._bytes(Place(row["n"], row["part"], row["offset"], row["size"]))

    def _bytes(self, place: Place) -> bytes:
        path = self._path(place.part)
        if place.part not in self._open:
            if len(self._open) >= _MOST_OPEN:
                self.close()
            self._open[place.part] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return record_at(self._open[place.part], path, place.n, place.offset or 0, place.size or 0)

    def row(self, id: str) -> Row:
        """What the table says of one item."""
        number = self._place(id).part
        if self._last[0] != number:  # whoever reads items in order reads each part's rows once
            self._last = number, {row["id"]: row for row in read_rows(self._path(number))}
        return self._last[1][id]

    def rows(self) -> Iterator[Row]:
        """What the table says of every item, in order, a part at a time."""
        for part in self.parts:
            yield from read_rows(part)

    def record(self, id: str) -> Record:
        """One item's record as a reader wants it: with what the data says of its answer, and with its image where the
        file is still the one that was asked about."""
        return self.record_of(self.row(id))

    def record_of(self, row: Row, *, picture: bool = True) -> Record:
        """The same of a row that is known already.

        Args:
            row: one of `rows`, of an item that has a record.
            picture: whether the image's file is looked for.
        """
        record = decode(self.read_at(row))
        said = annotations_of(row)
        if said is not None and record.facts.annotations is None:
            record = record.with_facts(replace(record.facts, annotations=said))
        return record if record.pictures or not picture else self._with_picture(record, row)

    def photo(self, row: Row, record: Record) -> PillowImage.Image | None:
        """The image of a row's record, upright RGB, where the record lacks it and its file is still that one.

        It costs less than a record with the image, which holds it encoded anew.
        """
        data = None if record.pictures else self._file(row, record)
        with contextlib.suppress(PictureError):
            return None if data is None else open_picture(data)
        return None

    def how_far(self) -> str:
        """How far a run is that has not ended, for people; "" of one that has."""
        items, chunk = self.about.items, self.about.chunk
        done = sum(max(0, min(chunk, items - int(part.stem) * chunk)) for part in self.parts)
        if done >= items:
            return ""
        return f"{done:,} of {items:,} items are finished, and the command of the run goes on with the others"

    def check_answered(self) -> None:
        """Makes sure that there is a record.

        Raises:
            StoreError: nothing is finished yet, or all that is has an error, with the first.
        """
        first: Row | None = None
        for row in self.rows():
            if row["offset"] is not None:
                return
            first = first or row
        far = self.how_far()
        if first is None:
            raise StoreError(f"{self.path}: got no finished item, expected one with a record; {far}")
        raise StoreError(
            f"{self.path}: got {len(self):,} items that all have an error, such as {first['id']} ({_error(first)}), "
            f"expected one with a record; {far or 'mend the data, and name another -o'}"
        )

    def _path(self, part: int) -> Path:
        return part_path(self.path, part)

    def _place(self, id: str) -> Place:
        found = self._found()
        if id not in found:
            some = itertools.islice(found, _MOST_COMPARED)
            far = self.how_far()
            raise StoreError(
                f"{id}: got an unknown id, expected one of the {len(found)} in {self.path}{nearest(id, some)}"
                f"{f'; {far}' if far else ''}"
            )
        return found[id]

    def _found(self) -> dict[str, Place]:
        """The places of all items, looked up when they are first needed."""
        if self._places is None:
            listed = places_in_table(self.path, self.parts)
            if listed is None:
                listed = [tuple(row[name] for name in PLACE) for row in self.rows()]
            self._places = {id: Place(*where) for id, *where in listed}
        return self._places

    def _with_picture(self, record: Record, row: Row) -> Record:
        data = self._file(row, record)
        with contextlib.suppress(PictureError):
            return record if data is None else record.with_pictures([prepare_picture(data)])
        return record

    def _file(self, row: Row, record: Record) -> bytes | None:
        """The image's file; None where it went its way, or is another one: the record says which one it was."""
        try:
            data = image_bytes(self.about.images, row["image"])
            return data if len(record.facts.images) == 1 and not check_picture(record, data) else None
        except (OSError, ValueError, PictureError):
            return None

    def close(self) -> None:
        """Closes the parts."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _no_record(row: Row) -> StoreError:
    return StoreError(
        f"{row['id']}: got no record but an error ({_error(row)}), expected an answered item; name another one"
    )


def _error(row: Row) -> str:
    error = row["error"] or {}
    return ": ".join(part for part in (error.get("field"), error.get("message")) if part)
