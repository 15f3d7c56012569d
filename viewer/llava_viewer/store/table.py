"""The one table of a store: Parquet for programs and for finding records fast, CSV for spreadsheets.

Flow: rows, a part at a time -> row groups of table.parquet, marked with the parts that it is of -> places by id.
Parquet needs the extra `table` (pyarrow); without it a store works all the same, from the rows in its parts.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from llava_viewer.data.arrow import arrow as packages
from llava_viewer.files import written
from llava_viewer.store.part import Row

TABLE = "table.parquet"
_ROWS_TOGETHER = 10_000
_OF_PARTS = b"llava_gaze.parts"
PLACE = ("id", "n", "part", "offset", "size")
"""The columns by which a record is found."""
COLUMNS = (
    "n", "id", "image", "prompt", "answer", "right", "expected", "rule", "image_share", "needing", "finish_reason",
    "tokens", "texts", "logprobs", "without_image", "shares", "checks", "boxes", "tags", "error_code", "error_field",
    "error_message", "part", "offset", "size",
)  # fmt: skip
"""The table's columns. `image_share` is the first view's; `shares`, `checks` and `boxes` are JSON."""


def flat(row: Row) -> Row:
    """A row as the table has it: one value, or one list of values, a column."""
    error = row["error"] or {}
    shares = row["shares"] or {}
    found = {
        **row,
        "image_share": next(iter(shares.values()), None),
        **{name: _json(row[name]) for name in ("shares", "checks", "boxes")},
        **{f"error_{name}": error.get(name) for name in ("code", "field", "message")},
    }
    return {name: found[name] for name in COLUMNS}


def write_csv(rows: Iterable[Row], stream: TextIO) -> None:
    """Writes rows as CSV; lists are JSON."""
    writer = csv.writer(stream)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_json(value) if isinstance(value, list) else value for value in flat(row).values()])


def write_table(folder: Path, rows: Iterable[Row], parts: Sequence[Path]) -> Path:
    """Writes a store's table.parquet, whole or not at all.

    Args:
        folder: the store's.
        rows: of all `parts`, in order.
        parts: what the table is of; it is not used once they are others.

    Raises:
        ImportError: without pyarrow.
    """
    arrow, parquet = packages()
    schema = _schema(arrow).with_metadata({_OF_PARTS: parts_digest(parts).encode()})
    target, coming = folder / TABLE, iter(rows)
    with written(target) as partial, parquet.ParquetWriter(partial, schema, compression="zstd") as writer:
        while group := list(itertools.islice(coming, _ROWS_TOGETHER)):
            writer.write_table(arrow.Table.from_pylist([flat(row) for row in group], schema=schema))
    return target


def places_in_table(folder: Path, parts: Sequence[Path]) -> list[tuple[Any, ...]] | None:
    """(id, n, part, offset, size) of every item, or None: there is no table of just these parts, or no pyarrow."""
    path = folder / TABLE
    try:
        _, parquet = packages()
        if (parquet.read_schema(path).metadata or {}).get(_OF_PARTS) != parts_digest(parts).encode():
            return None
        found = parquet.read_table(path, columns=list(PLACE))
    except (ImportError, OSError, ValueError):  # pyarrow's own errors are of these
        return None
    return list(zip(*(found.column(name).to_pylist() for name in PLACE), strict=True))


def parts_digest(parts: Sequence[Path]) -> str:
    """What changes when a part is added or written anew."""
    stamps = ((path.name, (status := path.stat()).st_size, status.st_mtime_ns) for path in parts)
    return hashlib.sha256("\n".join(f"{name} {size} {time}" for name, size, time in stamps).encode()).hexdigest()


def _schema(arrow: Any) -> Any:
    kinds = {
        "n": arrow.int64(), "right": arrow.bool_(), "image_share": arrow.float32(), "needing": arrow.int32(),
        "tokens": arrow.list_(arrow.int32()), "texts": arrow.list_(arrow.string()),
        "logprobs": arrow.list_(arrow.float32()), "without_image": arrow.list_(arrow.float32()),
        "tags": arrow.list_(arrow.string()), "part": arrow.int32(), "offset": arrow.int64(), "size": arrow.int64(),
    }  # fmt: skip
    return arrow.schema([(name, kinds.get(name, arrow.string())) for name in COLUMNS])


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)
