"""Data as people have it: JSON lines, CSV, Parquet, a COCO file, a folder of images.

Flow: path -> `Data`: what kind it is, which columns mean what, and `Entry`s one after another. Columns are named by the
caller or guessed by their names; what was guessed is told.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llava_viewer.runs.coco import coco_entries
from llava_viewer.runs.items import DataError, Entry
from llava_wire.errors import beginning, nearest

FIELDS = ("image", "prompt", "id", "expected", "boxes", "tags")
"""What a column may mean."""
_NAMES = {
    "image": ("image", "image_path", "img_path", "img", "file_name", "filename", "file", "path"),
    "prompt": ("prompt", "prompts", "question", "questions", "query", "instruction", "text"),
    "id": ("id", "question_id", "qid", "uid", "key"),
    "expected": ("expected", "answer", "gt_answer", "label", "target"),
    "boxes": ("boxes", "bboxes"),
    "tags": ("tags", "tag", "category"),
}
"""By which names a column is recognised, the likeliest first."""
_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif"})


@dataclass(frozen=True)
class Data:
    """Where a run's questions come from.

    Args:
        kind: in words, for people.
        images: the folder that paths of images count from.
        columns: what each column means, those that were found.
        entries: one after another.
    """

    kind: str
    images: Path
    entries: Iterator[Entry]
    columns: Mapping[str, str] = field(default_factory=dict)


def read_data(path: Path, columns: Mapping[str, str], images: Path | None = None, *, needs_images: bool = True) -> Data:
    """Opens the data of a run.

    Args:
        path: a file or folder.
        columns: what a column means (one of `FIELDS`) -> its name; "" for none.
        images: the folder that paths of images count from; None for the data's own.
        needs_images: whether data without a column of images is refused.

    Raises:
        DataError: it is of no known kind, or has no such column.
        OSError: it cannot be read.
    """
    for name in columns:
        if name not in FIELDS:
            raise DataError(f"--column: got {name!r}, expected {', '.join(FIELDS)}{nearest(name, FIELDS)}")
    if path.is_dir():
        found = sorted(one.relative_to(path).as_posix() for one in path.rglob("*") if one.suffix.lower() in _IMAGES)
        return Data("a folder of images", images or path, (Entry(name, name) for name in found))
    ending = path.suffix.lower()
    if ending == ".json":
        entries, own, flat = coco_entries(path)
        said = f" (boxes without area, left out: {flat})" if flat else ""
        return Data(f"a COCO file{said}", images or own, entries)
    if ending == ".parquet":
        names, rows = _parquet(path)
    elif ending in (".csv", ".tsv"):
        names, rows = _csv(path, "\t" if ending == ".tsv" else ",")
    elif ending in (".jsonl", ".ndjson"):
        names, rows = _all_names(path), _lines(path)
    else:
        raise DataError(
            f"{path}: got a name that ends in {ending!r}, expected .jsonl, .csv, .tsv, .parquet, .json (COCO), or a "
            "folder of images"
        )
    meant = _meant(names, columns, needs_images)
    return Data(f"{ending[1:]}", images or path.parent, _entries(rows, meant), meant)


def _meant(names: list[str], named: Mapping[str, str], needs_images: bool) -> dict[str, str]:
    """Which column means what: the named ones, and by their names those that nobody named."""
    meant: dict[str, str] = {}
    for meaning in FIELDS:
        if meaning in named:
            if named[meaning] and named[meaning] not in names:
                raise DataError(
                    f"--column {meaning}: got {named[meaning]!r}, expected one of {', '.join(names)}"
                    f"{nearest(named[meaning], names)}"
                )
            guess: str | None = named[meaning]
        else:
            lower = {name.lower(): name for name in reversed(names)}
            guess = next((lower[name] for name in _NAMES[meaning] if name in lower), None)
        if guess:
            meant[meaning] = guess
    if needs_images and "image" not in meant:
        raise DataError(
            f"image: got the columns {', '.join(names)}, expected one with the paths of images; name it (--column "
            "image=NAME)"
        )
    return meant


def _entries(rows: Iterator[tuple[str, Mapping[str, Any]]], meant: Mapping[str, str]) -> Iterator[Entry]:
    for where, row in rows:
        found = {meaning: row.get(name) for meaning, name in meant.items()}
        yield Entry(
            where, found.get("image"), found.get("id"), found.get("prompt"), found.get("expected"),
            found.get("boxes"), found.get("tags"),
        )  # fmt: skip


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="\n") as stream:
        for number, line in enumerate(_of_utf8(path, stream), 1):
            if not line.strip():
                continue
            where = f"{path.name} line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: got {beginning(line.strip())}, expected a JSON object ({error})") from None
            if not isinstance(row, dict):
                raise DataError(f"{where}: got {beginning(row)}, expected a JSON object")
            yield where, row


def _of_utf8(path: Path, lines: Iterable[str]) -> Iterator[str]:
    """The lines of a file.

    Raises:
        DataError: it is of another encoding.
    """
    try:
        yield from lines
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name}: got bytes that are no UTF-8 ({error.reason}), expected UTF-8; convert it"
        ) from None


def _all_names(path: Path) -> list[str]:
    """The names of all lines, since a field may be missing in any."""
    names: dict[str, None] = {}
    for _, row in _lines(path):
        names |= dict.fromkeys(row)
    return list(names)


def _csv(path: Path, separator: str) -> tuple[list[str], Iterator[tuple[str, Mapping[str, Any]]]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        names = next(csv.reader(_of_utf8(path, stream), delimiter=separator), [])

    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(_of_utf8(path, stream), delimiter=separator)
            for row in reader:
                where = f"{path.name} line {reader.line_num}"
                yield where, {name: _value(where, name, value) for name, value in row.items() if name is not None}

    return names, rows()


def _value(where: str, name: str, text: str | None) -> Any:
    """A cell: JSON where it looks like a list or an object, nothing where it is empty, else its text."""
    if not text:
        return None
    if text[0] in "[{":
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}, {name}: got {beginning(text)}, expected JSON ({error})") from None
    return text


def _parquet(path: Path) -> tuple[list[str], Iterator[tuple[str, Mapping[str, Any]]]]:
    from llava_viewer.store.table import arrow_parquet

    try:
        file = arrow_parquet().ParquetFile(path)
    except ValueError as error:
        raise DataError(f"{path.name}: got {error!s:.200}, expected a Parquet file") from None

    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        number = 0
        for batch in file.iter_batches(1000):
            for row in batch.to_pylist():
                yield f"{path.name} row {number}", {name: _of_json(value) for name, value in row.items()}
                number += 1

    return list(file.schema_arrow.names), rows()


def _of_json(value: Any) -> Any:
    """Boxes stand in columns as JSON."""
    if isinstance(value, str) and value[:1] == "{":
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
