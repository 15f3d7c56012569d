"""Parquet: a file, or a folder of them as data sets are published; images are paths, or bytes in the file."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llava_doors.door import Declaration
from llava_viewer.data.arrow import (
    KEPT,
    KEY,
    MOST_TOGETHER_BYTES,
    PATH,
    Columns,
    Row,
    arrow,
    as_errors_of,
    bytes_of,
    shown,
    stamp,
    with_places,
)  # fmt: skip
from llava_viewer.data.columns import NAMES, table
from llava_viewer.data.kind import HOLDS, NO, PERHAPS, YES, Asked, Data, DataError
from llava_viewer.look import wording

DECLARATION = Declaration(
    "parquet",
    "Parquet (.parquet), or a folder of it; images are paths, bytes, or {bytes, path}.",
    "llava_viewer.data.kinds.parquet:Parquet",
    traits={HOLDS: (".parquet",)},
)
_SHARD = re.compile(r"-\d+-of-\d+(-[0-9a-f]+)?$")


class Parquet:
    """See `llava_viewer.data.kind.Kind` and `Holder`."""

    def fits(self, path: Path) -> int:
        """A file by its ending; a folder that holds some, where there are no images beside."""
        if path.is_dir():
            return PERHAPS if any(path.rglob("*.parquet")) else NO
        return YES if path.suffix.lower() == ".parquet" else NO

    def read(self, asked: Asked) -> Data:
        """Rows of all files, in the order of their names."""
        folder = asked.path if asked.path.is_dir() else asked.path.parent
        files = sorted(asked.path.rglob("*.parquet")) if asked.path.is_dir() else [asked.path]
        columns = {file: Columns(_schema(file)) for file in files}
        names = {name: None for one in columns.values() for name in one.names}
        likely = [name for one in columns.values() for name in one.likely]
        held = any(one.images for one in columns.values())
        kind = "parquet" if asked.path in files else f"a folder of Parquet ({len(files)} files)"
        return table(
            asked, kind, [*names, *([KEY] if held else [])], _rows(files, columns, folder, asked.images or folder),
            folder, {"image": [*dict.fromkeys(likely), *NAMES["image"]], "id": [*NAMES["id"], KEY]},
        )  # fmt: skip

    def image(self, file: Path, member: str, number: int) -> bytes:
        """See `_image`."""
        return _image(file, member, number)


def _rows(
    files: Sequence[Path], columns: Mapping[Path, Columns], folder: Path, images: Path
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all files with their keys: numbers, behind the name of a split where there are several."""
    splits = {file: _SHARD.sub("", file.relative_to(folder).with_suffix("").as_posix()) for file in files}
    several = len(set(splits.values())) > 1
    count = dict.fromkeys(splits.values(), 0)
    for file, split in splits.items():
        for number, row in enumerate(_rows_of(file, os.path.relpath(file, images), columns[file])):
            key = f"{split}/{count[split]}" if several else str(count[split])
            yield f"{file.name} row {number}", {KEY: key, **row}
            count[split] += 1


def _rows_of(path: Path, name: str, columns: Columns) -> Iterator[Row]:
    """The rows of a Parquet file, places of images in their stead.

    Args:
        name: the file's, from the folder of images.

    Raises:
        DataError: more images in one group than can be read together.
    """
    file = arrow()[1].ParquetFile(path)
    number = 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        images = {column: _held(path, file, group, columns, column) for column in columns.images}
        yield from with_places(columns, name, number, _others(file, group, columns.others, count), images)
        number += count


def _image(path: Path, member: str, number: int) -> bytes:
    """The image of a row of a Parquet file.

    Raises:
        OSError: it is not there.
    """
    parquet = arrow()[1]
    with as_errors_of(path):
        file = parquet.ParquetFile(path, metadata=KEPT.of((*stamp(path), ""), lambda: parquet.read_metadata(path)))
        columns, group, first = Columns(file.schema_arrow), 0, 0
        while group < file.num_row_groups and number >= first + file.metadata.row_group(group).num_rows:
            first += file.metadata.row_group(group).num_rows
            group += 1
        column = columns.of_member(member, path)
        if group >= file.num_row_groups:
            raise OSError(errno.ENOENT, f"no row {number} in {path.name}")
        key = (*stamp(path), f"{column} {group}")
        values = KEPT.of(key, lambda: file.read_row_group(group, columns=[columns.leaf(column)]).column(0))
        return bytes_of(values[number - first], path, number)


def _schema(path: Path) -> Any:
    """The schema of a Parquet file.

    Raises:
        DataError: it is none.
    """
    try:
        return arrow()[1].read_schema(path)
    except ValueError as error:
        raise DataError(f"{path.name}: got {error!s:.200}, expected a Parquet file") from None


def _held(path: Path, file: Any, group: int, columns: Columns, column: str) -> tuple[list[bool], list[str | None]]:
    """Whether the bytes of each row's image are there, and its path."""
    leaf, about = columns.leaf(column), file.metadata.row_group(group)
    chunk = next(one for one in map(about.column, range(about.num_columns)) if one.path_in_schema == leaf)
    if chunk.total_uncompressed_size > MOST_TOGETHER_BYTES:
        size, most = wording.size(chunk.total_uncompressed_size), wording.size(MOST_TOGETHER_BYTES)
        raise DataError(
            f"{path.name}, {column}: got {size} of images in one group of {about.num_rows} rows, expected up to "
            f"{most}; write it with smaller groups (row_group_size=100)"
        )
    nulls = chunk.statistics.null_count if chunk.statistics is not None else None
    if nulls in (0, about.num_rows):
        held = [nulls == 0] * about.num_rows
    else:
        held = []
        for batch in file.iter_batches(64, row_groups=[group], columns=[leaf]):
            held += shown(batch.column(0))[0]
    paths: list[str | None] = [None] * about.num_rows
    if path_leaf := columns.path_leaf(column):
        told = file.read_row_group(group, columns=[path_leaf]).column(0).to_pylist()
        paths = [one.get(PATH) if one else None for one in told]
    return held, paths


def _others(file: Any, group: int, names: Sequence[str], count: int) -> Iterator[Row]:
    if not names:
        yield from ({} for _ in range(count))
        return
    for batch in file.iter_batches(1000, row_groups=[group], columns=list(names)):
        yield from batch.to_pylist()
