"""A folder that `datasets` saved (`save_to_disk`): Arrow files, or several splits of them."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llava_doors.door import Declaration
from llava_viewer.data.arrow import KEPT, KEY, Columns, Row, arrow, as_errors_of, bytes_of, shown, stamp, with_places
from llava_viewer.data.columns import NAMES, table
from llava_viewer.data.kind import BY_ITS_MARK, HOLDS, NO, Asked, Data, DataError
from llava_wire.errors import beginning

DECLARATION = Declaration(
    "hugging_face",
    "A folder that Hugging Face's datasets saved (save_to_disk), one split or several.",
    "llava_viewer.data.kinds.hugging_face:HuggingFace",
    traits={HOLDS: (".arrow",)},
)
_STATE, _SPLITS = "state.json", "dataset_dict.json"


class HuggingFace:
    """See `llava_viewer.data.kind.Kind` and `Holder`."""

    def fits(self, path: Path) -> int:
        """By the files that say what it is."""
        return BY_ITS_MARK if (path / _STATE).is_file() or (path / _SPLITS).is_file() else NO

    def read(self, asked: Asked) -> Data:
        """Rows in the data set's own order, splits one after another."""
        splits = _splits(asked.path)
        columns = {file: Columns(_schema(file)) for files in splits.values() for file in files}
        names = {name: None for one in columns.values() for name in one.names}
        likely = [name for one in columns.values() for name in one.likely]
        kind = f"a data set of Hugging Face ({', '.join(splits)})" if "" not in splits else "a data set of Hugging Face"
        return table(
            asked, kind, [*names, KEY], _rows(splits, columns, asked.images or asked.path), asked.path,
            {"image": [*dict.fromkeys(likely), *NAMES["image"]], "id": [*NAMES["id"], KEY]},
        )  # fmt: skip

    def image(self, file: Path, member: str, number: int) -> bytes:
        """See `_image`."""
        return _image(file, member, number)


def _splits(folder: Path) -> dict[str, list[Path]]:
    """The files of each split, in order; "" for a folder of one."""
    if (folder / _STATE).is_file():
        return {"": _files(folder)}
    names = _said(folder / _SPLITS, "splits")
    return {str(name): _files(folder / str(name)) for name in names}


def _files(folder: Path) -> list[Path]:
    listed = _said(folder / _STATE, "_data_files")
    found = [folder / str(one.get("filename")) for one in listed if isinstance(one, Mapping)]
    for file in found:
        if not file.is_file() or file.parent != folder:
            raise DataError(
                f"{folder.name}/{_STATE}: got {file.name!r}, expected a file beside it; copy the whole folder"
            )
    return found


def _said(path: Path, name: str) -> Sequence[Any]:
    """A list that a file of the folder holds.

    Raises:
        DataError: it holds none.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: got no such file ({error.strerror}), expected one; copy the whole folder") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: got no JSON ({error}), expected a file that datasets wrote; copy it again") from None
    listed = found.get(name) if isinstance(found, Mapping) else None
    if not isinstance(listed, list):
        raise DataError(f"{path}, {name}: got {beginning(listed)}, expected a list; copy the folder again")
    return listed


def _rows(
    splits: Mapping[str, Sequence[Path]], columns: Mapping[Path, Columns], images: Path
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for split, files in splits.items():
        count = 0
        for file in files:
            for number, row in enumerate(_rows_of(file, os.path.relpath(file, images), columns[file])):
                yield f"{file.name} row {number}", {KEY: f"{split}/{count}" if split else str(count), **row}
                count += 1


def _rows_of(path: Path, name: str, columns: Columns) -> Iterator[Row]:
    """The rows of an Arrow file, places of images in their stead."""
    table, number = _stream(path), 0
    for batch in table.select(columns.others + columns.images).to_batches():
        images = {column: shown(batch.column(column)) for column in columns.images}
        rows = batch.select(columns.others).to_pylist() if columns.others else [{}] * batch.num_rows
        yield from with_places(columns, name, number, rows, images)
        number += batch.num_rows


def _image(path: Path, member: str, number: int) -> bytes:
    """The image of a row of an Arrow file, which is mapped and not read.

    Raises:
        OSError: it is not there.
    """
    with as_errors_of(path):
        table = _stream(path)
        column = Columns(table.schema).of_member(member, path)
        if number >= table.num_rows:
            raise OSError(errno.ENOENT, f"no row {number} in {path.name}")
        return bytes_of(table.column(column)[number], path, number)


def _schema(path: Path) -> Any:
    """The schema of an Arrow file.

    Raises:
        DataError: it is none.
    """
    try:
        return _stream(path).schema
    except (ValueError, OSError) as error:
        raise DataError(f"{path.name}: got {error!s:.200}, expected an Arrow file; write it anew") from None


def _stream(path: Path) -> Any:
    """An Arrow file as a table; `datasets` writes streams."""
    ipc, pyarrow = arrow()[0].ipc, arrow()[0]

    def read() -> Any:
        mapped = pyarrow.memory_map(str(path))
        try:
            return ipc.open_stream(mapped).read_all()
        except pyarrow.ArrowInvalid:
            mapped.seek(0)
            return ipc.open_file(mapped).read_all()

    return KEPT.of((*stamp(path), "table"), read)
