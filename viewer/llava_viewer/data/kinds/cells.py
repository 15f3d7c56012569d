"""CSV and TSV: a line of cells for each image; cells that begin with [ or { are JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llava_doors.door import Declaration
from llava_viewer.data.columns import of_utf8, table
from llava_viewer.data.kind import NO, YES, Asked, Data, DataError
from llava_wire.errors import beginning

DECLARATION = Declaration(
    "cells", "CSV or TSV (.csv, .tsv) with a line of names.", "llava_viewer.data.kinds.cells:Cells"
)


class Cells:
    """See `llava_viewer.data.kind.Kind`."""

    def fits(self, path: Path) -> int:
        """By its ending."""
        return YES if path.suffix.lower() in (".csv", ".tsv") and not path.is_dir() else NO

    def read(self, asked: Asked) -> Data:
        """The first line has the names."""
        path, separator = asked.path, "\t" if asked.path.suffix.lower() == ".tsv" else ","
        with path.open(encoding="utf-8-sig", newline="") as stream:
            names = next(csv.reader(of_utf8(path, stream), delimiter=separator), [])
        return table(asked, path.suffix.lower()[1:], names, _rows(path, separator), path.parent)


def _rows(path: Path, separator: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(of_utf8(path, stream), delimiter=separator)
        for row in reader:
            where = f"{path.name} line {reader.line_num}"
            yield where, {name: _value(where, name, value) for name, value in row.items() if name is not None}


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
