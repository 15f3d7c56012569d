"""One part of a store: a tar of unchanged records with their rows, written whole or not at all.

Flow: records in any order -> `PartWriter` -> `<number>.npz` members, then `__rows__` (a line of JSON each), then
`__end__`, which says where the rows lie -> renamed. Readers of WebDataset skip both names; `pread` gives one record.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llava_wire.system.replacing import replacing

BLOCK = 512
"""Of a tar: headers are one block, contents begin with one."""
_ROWS, _END = "__rows__", "__end__"
_END_BYTES = 3 * BLOCK
"""The content of `__end__` and the two empty blocks that close a tar: what a reader looks at first."""
_MOST_RECORD_BYTES = 1 << 31
Row = dict[str, Any]
"""What the table says of one item (`rows`), with `part`, `offset` and `size` where there is a record."""


class StoreError(ValueError):
    """A folder that is no store, a store that is damaged, or an id that it does not hold."""


def member_name(number: int) -> str:
    """What a record is called inside a part, by its item's number."""
    return f"{number:09}.npz"


class PartWriter:
    """Writes one part; nothing of it is there before `finish`.

    Args:
        path: where the part goes.
        partial: where it is written meanwhile, in the same file system.
        number: the part's, which its rows name.
    """

    def __init__(self, path: Path, partial: Path, number: int) -> None:
        self._path, self._partial, self._number = path, partial, number
        self._stream = partial.open("xb")
        self._tar = tarfile.open(fileobj=self._stream, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self._rows: list[Row] = []

    def add(self, row: Row, record: bytes | None) -> None:
        """Adds one item.

        Args:
            row: what the table says of it; `n` is its number.
            record: the record's file, or None where there is none.
        """
        place: Row = {"part": self._number, "offset": None, "size": None}
        if record is not None:
            place |= {"offset": self._put(member_name(row["n"]), record), "size": len(record)}
        self._rows.append({**row, **place})

    def finish(self, header: Mapping[str, Any]) -> list[Row]:
        """Puts the part in its place and gives its rows, in the order of the items.

        Args:
            header: what is true of the part as a whole, for `read_header`.
        """
        self._rows.sort(key=lambda row: row["n"])
        lines = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in self._rows).encode()
        offset = self._put(_ROWS, lines)
        end = json.dumps({"offset": offset, "size": len(lines), "items": len(self._rows), **header}).encode()
        if len(end) > BLOCK:
            raise ValueError(f"header: got {len(end)} bytes with the place of the rows, expected {BLOCK}")
        self._put(_END, end.ljust(BLOCK))
        # `TarFile.close` would fill up to 10 kB; a reader finds the end by its distance from the file's.
        self._stream.write(bytes(2 * BLOCK))
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        with replacing(self._path) as empty:
            self._partial.rename(empty)
        return self._rows

    def discard(self) -> None:
        """Gives up what was written."""
        with contextlib.suppress(OSError):  # what is buffered may not fit a full disk either
            self._stream.close()
        self._partial.unlink(missing_ok=True)

    def _put(self, name: str, content: bytes) -> int:
        """Adds a member and gives the place of its content."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), 0o644
        offset = self._tar.offset + BLOCK
        self._tar.addfile(info, io.BytesIO(content))
        return offset


def read_header(path: Path) -> dict[str, Any]:
    """What is true of a part as a whole, with `items`, how many there are.

    Raises:
        StoreError: it is no part, or a damaged one.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return _header(stream.fileno(), path)


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a part, in the order of the items.

    Raises:
        StoreError, OSError: as `read_header`.
    """
    with path.open("rb") as stream:
        header = _header(stream.fileno(), path)
        data = os.pread(stream.fileno(), header["size"], header["offset"])
    try:
        rows = [json.loads(line) for line in data.splitlines()]
    except ValueError as error:
        raise _damaged(path, f"rows that are no JSON ({error})") from None
    if len(rows) != header["items"]:
        raise _damaged(path, f"{len(rows)} rows, expected {header['items']}")
    # A part that was copied under another's name would count its items twice.
    other = next((row["part"] for row in rows if path.stem.isdecimal() and row["part"] != int(path.stem)), None)
    if other is not None:
        raise _damaged(path, f"the items of part {other}")
    yield from rows


def record_at(descriptor: int, path: Path, number: int, offset: int, size: int) -> bytes:
    """One record out of an open part.

    Args:
        descriptor: of the open part.
        path: the part's, for errors.
        number: the item's.
        offset, size: as its row says, in bytes.

    Raises:
        StoreError: something else lies there: the part was written anew, or is damaged.
    """
    if not (offset >= BLOCK and 0 <= size < _MOST_RECORD_BYTES):
        raise _damaged(path, f"a record at {offset} of {size} bytes")
    data = os.pread(descriptor, BLOCK + size, offset - BLOCK)
    name = data[:100].rstrip(b"\0").decode("ascii", "replace")
    if len(data) != BLOCK + size or name != member_name(number):
        raise _damaged(path, f"{name!r} of {max(0, len(data) - BLOCK)} bytes, expected {member_name(number)} of {size}")
    return data[BLOCK:]


def _header(descriptor: int, path: Path) -> dict[str, Any]:
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, _END_BYTES, max(0, size - _END_BYTES))
    try:
        header = json.loads(tail[:BLOCK])
        offset, rows, items = (header[key] for key in ("offset", "size", "items"))
        whole = all(type(value) is int for value in (offset, rows, items)) and BLOCK <= offset <= offset + rows <= size
    except (ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise _damaged(path, f"{size} bytes that do not end as a part does")
    return dict(header)


def _damaged(path: Path, got: str) -> StoreError:
    return StoreError(f"{path}: got {got}, expected a whole part; remove it, and the command of the run makes it anew")
