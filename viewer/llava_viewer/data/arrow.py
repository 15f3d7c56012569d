"""Arrow tables and Parquet files whose images are bytes: rows without these, and the bytes of one row's image.

Flow: schema -> which columns hold images, which numbers are labels with names -> rows as plain values; file, column and
row -> bytes, from a group of rows that is kept for the next ones. Needs the extra `table` (pyarrow).

Columns of images are binary, or a struct {bytes, path} as Hugging Face's `datasets` writes them, which also says in
the schema which columns are images and what labels are called.
"""

from __future__ import annotations

import contextlib
import errno
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llava_viewer.client.errors import missing_package
from llava_viewer.data.columns import NAMES
from llava_viewer.data.kind import inside

MOST_TOGETHER_BYTES = 1 << 30
"""Of the images of one group of rows of a Parquet file, which are read together; and of all that are kept."""
BYTES, PATH = "bytes", "path"
KEY = "__key__"
"""The column of the rows' numbers, by which rows whose images have no paths are told apart."""
Row = dict[str, Any]


def arrow() -> tuple[Any, Any]:
    """The packages pyarrow and pyarrow.parquet.

    Raises:
        ImportError: not installed, with the extra that brings them.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_package("pyarrow", "table") from error
    return pyarrow, pyarrow.parquet


class Columns:
    """What the columns of a file are.

    Args:
        schema: of pyarrow.

    Attributes:
        names: of all; images: of those that hold images; likely: the one that is meant where no name tells.
    """

    def __init__(self, schema: Any) -> None:
        self.names: list[str] = list(schema.names)
        self.images = [name for name in self.names if _leaf(schema.field(name).type) is not None]
        self._structs = {name for name in self.images if _leaf(schema.field(name).type) == BYTES}
        self._paths = {name for name in self._structs if schema.field(name).type.get_field_index(PATH) >= 0}
        features = _features(schema)
        marked = [name for name in self.names if _type_of(features.get(name)) == "Image"]
        # Paths in a column of the usual name are meant before bytes in one of another name.
        named = set(NAMES["image"]) & set(self.others)
        self.likely = marked or (self.images if len(self.images) == 1 and not named else [])
        self._labels = {name: labels for name in self.names if (labels := _labels(features.get(name)))}

    @property
    def others(self) -> list[str]:
        """The columns without images."""
        return [name for name in self.names if name not in self.images]

    def leaf(self, column: str) -> str:
        """Where the bytes of a column lie."""
        return f"{column}.{BYTES}" if column in self._structs else column

    def path_leaf(self, column: str) -> str | None:
        """Where the paths of a column of images lie, where it has any."""
        return f"{column}.{PATH}" if column in self._paths else None

    def plain(self, row: Mapping[str, Any]) -> Row:
        """A row's values as JSON has them, labels by their names."""
        return {name: _plain(self._named(name, value)) for name, value in row.items()}

    def of_member(self, member: str, file: Path) -> str:
        """The column that `member_of` told.

        Raises:
            OSError: there is none any more.
        """
        for name in self.images:
            if member == name or member.startswith(f"{name}/"):
                return name
        raise OSError(errno.ENOENT, f"no column of images {member!r:.80} in {file.name}")

    def _named(self, name: str, value: Any) -> Any:
        labels = self._labels.get(name)
        if labels is None:
            return value
        return [_label(labels, one) for one in value] if isinstance(value, list) else _label(labels, value)


def image_of_row(file: str, column: str, row: int, held: bool, path: str | None) -> str | None:
    """What an image of a row is called: its place, or where the row has a path alone, that.

    Args:
        file: from the folder of images; column, row: where it is there; held: whether its bytes are there.
    """
    name = Path(path).name if path else ""
    return inside(file, f"{column}/{name}" if name else column, row) if held else path or None


def with_places(
    columns: Columns,
    file: str,
    first: int,
    rows: Iterable[Row],
    images: Mapping[str, tuple[list[bool], list[str | None]]],
) -> Iterator[Row]:
    """Rows with their values as JSON has them, and what their images are called.

    Args:
        file: from the folder of images.
        first: the number of the first row there.
        rows: what the columns without images hold.
        images: of each column of images, whether each row's bytes are there, and its path.
    """
    for place, row in enumerate(rows):
        found = columns.plain(row)
        for column, (held, paths) in images.items():
            found[column] = image_of_row(file, column, first + place, held[place], paths[place])
        yield found


class Kept:
    """What was read last, up to a number of bytes; whatever the number, the last one."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes, self._found, self._lock = most_bytes, OrderedDict[Any, Any](), threading.Lock()

    def of(self, key: Any, read: Callable[[], Any]) -> Any:
        """What is kept under a key, or is read now; one thread at a time, so that no two read the same."""
        with self._lock:
            if key not in self._found:
                self._found[key] = read()
            self._found.move_to_end(key)
            while len(self._found) > 1 and sum(map(_size, self._found.values())) > self._most_bytes:
                self._found.popitem(last=False)
            return self._found[key]


KEPT = Kept(MOST_TOGETHER_BYTES)
"""Of the whole process."""


@contextlib.contextmanager
def as_errors_of(path: Path) -> Iterator[None]:
    """Whatever pyarrow raises while it reads, as an error of the file.

    Raises:
        OSError: in its place.
    """
    try:
        yield
    except (ValueError, KeyError, IndexError) as error:
        raise OSError(errno.EIO, f"what is no table ({error!s:.200}) in {path.name}") from error


def _size(kept: Any) -> int:
    return int(getattr(kept, "nbytes", 0)) if not hasattr(kept, "schema") else 0  # mapped tables are not in memory


def stamp(path: Path) -> tuple[str, int, int]:
    """What changes with a file."""
    status = path.stat()
    return str(path.resolve()), status.st_mtime_ns, status.st_size


def bytes_of(value: Any, path: Path, row: int) -> bytes:
    """The image of a cell.

    Raises:
        OSError: there is none.
    """
    found = value.as_py()
    found = found.get(BYTES) if isinstance(found, Mapping) else found
    if not isinstance(found, bytes):
        raise OSError(errno.ENODATA, f"no image in row {row} of {path.name}")
    return found


def shown(column: Any) -> tuple[list[bool], list[str | None]]:
    """Whether the bytes of each cell of an array of images are there, and its path."""
    pyarrow = arrow()[0]
    if not pyarrow.types.is_struct(column.type):
        return column.is_valid().to_pylist(), [None] * len(column)
    flat = dict(zip((field.name for field in column.type), column.flatten(), strict=True))
    return (
        flat[BYTES].is_valid().to_pylist(),
        flat[PATH].to_pylist() if PATH in flat else [None] * len(column),
    )


def _leaf(kind: Any) -> str | None:
    """Where a column's images lie: "" in itself, "bytes" in a struct; None where it holds none."""
    types = arrow()[0].types

    def binary(one: Any) -> bool:
        return bool(types.is_binary(one) or types.is_large_binary(one))

    if binary(kind):
        return ""
    if types.is_struct(kind) and kind.get_field_index(BYTES) >= 0 and binary(kind.field(BYTES).type):
        return BYTES
    return None


def _features(schema: Any) -> Mapping[str, Any]:
    """What `datasets` says of the columns, in the schema's metadata."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _type_of(feature: Any) -> str:
    return str(feature.get("_type", "")) if isinstance(feature, Mapping) else ""


def _labels(feature: Any) -> list[str]:
    """The names of a feature's labels, also of a list of them."""
    if isinstance(feature, list) and feature:
        return _labels(feature[0])
    if not isinstance(feature, Mapping):
        return []
    if feature.get("_type") == "ClassLabel":
        return [str(name) for name in feature.get("names") or ()]
    return _labels(feature["feature"]) if feature.get("_type") in ("Sequence", "List", "LargeList") else []


def _label(labels: Sequence[str], value: Any) -> Any:
    if value == -1:
        return None  # how `datasets` says that there is none
    return labels[value] if isinstance(value, int) and 0 <= value < len(labels) else value


def _plain(value: Any) -> Any:
    """A value as JSON has it: objects that stand as text, and structs, whose fields are there in every row."""
    if isinstance(value, str) and value[:1] == "{":
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    if isinstance(value, Mapping):
        return {name: one for name, one in value.items() if one is not None} or None
    if isinstance(value, list) and value and all(isinstance(one, tuple) and len(one) == 2 for one in value):
        return dict(value)  # a map
    return value
