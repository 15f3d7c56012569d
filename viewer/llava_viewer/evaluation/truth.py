"""What is known of a store's images: the truth that its data brought, or that of a file.

Flow: COCO, JSON lines or a JSON object -> `Known` by id or image -> `Truth.of(row)`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llava_viewer.data.images import image_name
from llava_viewer.data.items import Boxes, checked_boxes
from llava_viewer.data.kind import DataError, Entry
from llava_viewer.data.reading import read_data
from llava_viewer.heads.questions import Box
from llava_viewer.store.part import Row
from llava_wire.errors import beginning
from llava_wire.record import Record

MOST_EXPECTED = 100
"""Answers that are expected of one item."""


@dataclass(frozen=True)
class Known:
    """What is known of one item.

    Args:
        boxes: phrase -> boxes [x0, y0, x1, y1] in px of the upright image.
        expected: right answers; of VQA's rule, what people answered.
        image: the path or name of its image, where that is told beside an id.
    """

    boxes: Boxes = field(default_factory=dict)
    expected: tuple[str, ...] = ()
    image: str = ""


@dataclass(frozen=True)
class Truth:
    """What a file knows, by the items' ids or by their images' paths or names.

    Args:
        by_name: none where the store's own rows are the truth.
        shared: names without folders that several images of the store have: whose truth it is, they do not tell.
    """

    by_name: Mapping[str, Known] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()

    def among(self, images: Iterable[str]) -> Truth:
        """The same for a store of these images, as its rows name them."""
        first: dict[str, str] = {}
        shared = {name for image in images if first.setdefault(name := Path(image).name, image) != image}
        return replace(self, shared=frozenset(shared & {*self.by_name}))

    def is_open(self, row: Row) -> bool:
        """Whether the file may mean this row's image, or another one of its name."""
        return Path(row["image"]).name in self.shared and self.found(row) is None

    def of(self, row: Row) -> Known:
        """What is known of a row's item; the row's own says what the file does not."""
        own = Known(row["boxes"] or {}, (row["expected"],) if row["expected"] else ())
        found = self.found(row)
        return own if found is None else Known(found.boxes or own.boxes, found.expected or own.expected)

    def found(self, row: Row) -> Known | None:
        """What the file alone knows of it."""
        name = image_name(row["image"])
        for key in (row["id"], row["image"], *([] if name in self.shared else [name])):
            found = self.by_name.get(key)
            # Another file's ids may be numbers that mean other images.
            if found is not None and image_name(found.image or name) == name:
                return found
        return None


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
        image = entry.image if isinstance(entry.image, str) else ""
        found = Known(checked_boxes(entry.where, entry.boxes) or {}, _expected(entry), image)
        if not found.boxes and not found.expected:
            continue
        name = entry.image if entry.id is None else entry.id
        if not isinstance(name, str | int):
            raise DataError(f"{entry.where}: got neither id nor image, expected one of them; name the item")
        if str(name) in known:
            raise DataError(f"{entry.where}, id: got {name!r} again, expected each item once; leave one out")
        known[str(name)] = found
        if image:
            by_image.setdefault(image, []).append(found)
    # What is known of an image as a whole serves every question about it; of several entries none is meant.
    known = {image: found[0] for image, found in by_image.items() if len(found) == 1} | known
    if not known:
        raise DataError(f"{path.name}: got no boxes and no expected answer, expected some; name another file")
    return Truth(known)


def _entries(path: Path) -> Iterator[Entry]:
    if path.suffix.lower() == ".json":
        try:
            plain = json.loads(path.read_text("utf-8-sig"), object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path.name}: got no JSON ({error}), expected boxes or a COCO file") from None
        if isinstance(plain, dict) and not isinstance(plain.get("images"), list):
            return (Entry(f"{path.name}, {name:.80}", None, name, boxes=boxes) for name, boxes in plain.items())
        # COCO's ids are its own numbers; what its boxes are of is told by the file's name.
        return (replace(entry, id=None) for entry in read_data(path, {}, needs_images=False).entries)
    return read_data(path, {}, needs_images=False).entries


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names come once each; JSON itself would take the last one.

    Raises:
        ValueError: naming the one that comes again.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r:.80} comes twice in one object")
        found[name] = value
    return found


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


def check_inside(record: Record, boxes: Boxes) -> None:
    """Refuses boxes that no patch can point at: of another image, of several, or as parts of its size instead of px.

    Raises:
        ValueError: naming the phrase.
    """
    if len(record.facts.images) > 1:
        raise ValueError(f"image: got {len(record.facts.images)} of them, expected one, whose boxes are known")
    width_px, height_px = record.facts.images[0].width_px, record.facts.images[0].height_px
    for phrase, listed in boxes.items():
        for x0, y0, x1, y1 in listed:
            if x1 <= 0 or y1 <= 0 or x0 >= width_px or y0 >= height_px or max(x1, y1) <= 1:
                raise ValueError(
                    f"boxes.{phrase:.80}: got {[x0, y0, x1, y1]}, expected px inside the image of {width_px} x "
                    f"{height_px} px; correct the truth"
                )


def boxes_of(boxes: Boxes) -> dict[str, tuple[Box, ...]]:
    """Boxes as those who look for words take them."""
    return {
        phrase: tuple((float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in listed)
        for phrase, listed in boxes.items()
    }
