"""JSON lines: an object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llava_doors.door import Declaration
from llava_viewer.data.columns import of_utf8, table
from llava_viewer.data.kind import NO, YES, Asked, Data, DataError
from llava_wire.errors import beginning

DECLARATION = Declaration(
    "json_lines", "JSON lines (.jsonl, .ndjson): an object a line.", "llava_viewer.data.kinds.lines:JsonLines"
)


class JsonLines:
    """See `llava_viewer.data.kind.Kind`."""

    def fits(self, path: Path) -> int:
        """By its ending."""
        return YES if path.suffix.lower() in (".jsonl", ".ndjson") and not path.is_dir() else NO

    def read(self, asked: Asked) -> Data:
        """Read twice: a field may be missing in any line."""
        path = asked.path
        names: dict[str, None] = {}
        for _, row in _lines(path):
            names |= dict.fromkeys(row)
        return table(asked, path.suffix.lower()[1:], list(names), _lines(path), path.parent)


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="\n") as stream:
        for number, line in enumerate(of_utf8(path, stream), 1):
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
