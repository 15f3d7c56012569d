"""What is known of a store's images: the truth that its data brought, or that of a file.

Flow: COCO, JSON lines or a JSON object -> `Known` by id or image -> `Truth.of(row)`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llava_viewer.runs.items import Boxes, DataError, Entry, checked_boxes
from llava_viewer.runs.readers import read_data
from llava_viewer.store.part import Row
from llava_wire.errors import beginning

MOST_EXPECTED = 100
"""Answers that are expected of one item."""


@dataclass(frozen=True)
class Known:
    """What is known of one item.

    Args:
        boxes: phrase -> boxes [x0, y0, x1, y1] in px of the upright image.
        expected: right answers; of VQA's rule, what people answered.
    """

    boxes: Boxes = field(default_factory=dict)
    expected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Truth:
    """What a file knows, by the items' ids or by their images' paths or names.

    Args:
        by_name: none where the store's own rows are the truth.
    """

    by_name: Mapping[str, Known] = field(default_factory=dict)

    def of(self, row: Row) -> Known:
        """What is known of a row's item; the row's own says what the file does not."""
        own = Known(row["boxes"] or {}, (row["expected"],) if row["expected"] else ())
        found = self.found(row)
        return own if found is None else Known(found.boxes or own.boxes, found.expected or own.expected)

    def found(self, row: Row) -> Known | None:
        """What the file alone knows of it."""
        names = (row["id"], row["image"], Path(row["image"]).name)
        return next((self.by_name[name] for name in names if name in self.by_name), None)


def read_truth(path: Path) -> Truth:
    """Reads a file of truth.

    Args:
        path: COCO's JSON; JSON lines, CSV or Parquet with the columns of `run`, where `expected` may be a list; or a
            JSON object, id or image -> phrase -> box.

    Raises:
        DataError: it is none of these, or says nothing.
        OSError: it cannot be read.
    """
    known: dict[str, Known] = {}
    by_image: dict[str, list[Known]] = {}
    for entry in _entries(path):
        found = Known(checked_boxes(entry.where, entry.boxes) or {}, _expected(entry))
        if found == Known():
            continue
        name = entry.image if entry.id is None else entry.id
        if not isinstance(name, str | int):
            raise DataError(f"{entry.where}: got neither id nor image, expected one of them; name the item")
        if str(name) in known:
            raise DataError(f"{entry.where}, id: got {name!r} again, expected each item once; leave one out")
        known[str(name)] = found
        if isinstance(entry.image, str):
            by_image.setdefault(entry.image, []).append(found)
    # What is known of an image as a whole serves every question about it; of several entries none is meant.
    known = {image: found[0] for image, found in by_image.items() if len(found) == 1} | known
    if not known:
        raise DataError(f"{path.name}: got no boxes and no expected answer, expected some; name another file")
    return Truth(known)


def _entries(path: Path) -> Iterator[Entry]:
    if path.suffix.lower() == ".json":
        try:
            plain = json.loads(path.read_text("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path.name}: got no JSON ({error}), expected boxes or a COCO file") from None
        if isinstance(plain, dict) and not isinstance(plain.get("images"), list):
            return (Entry(f"{path.name}, {name:.80}", None, name, boxes=boxes) for name, boxes in plain.items())
    return read_data(path, {}, needs_images=False).entries


def _expected(entry: Entry) -> tuple[str, ...]:
    given: Any = entry.expected
    listed = given if isinstance(given, list | tuple) else [] if given is None else [given]
    if len(listed) > MOST_EXPECTED or not all(
        isinstance(one, str | int | float) and not isinstance(one, bool) and str(one).strip() for one in listed
    ):
        raise DataError(
            f"{entry.where}, expected: got {beginning(given)}, expected a text, or a list of up to {MOST_EXPECTED}"
        )
    return tuple(map(str, listed))
