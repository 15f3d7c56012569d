"""A COCO file: its images, with the boxes of its annotations by the names of their categories.

Flow: images + annotations + categories -> one `Entry` an image; [x, y, width, height] -> [x0, y0, x1, y1] px.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llava_doors.door import Declaration
from llava_viewer.data.kind import NO, YES, Asked, Data, DataError, Entry
from llava_wire.errors import beginning

DECLARATION = Declaration(
    "coco", "A COCO file (.json), whose boxes become the truth.", "llava_viewer.data.kinds.coco:Coco"
)

_FOLDERS = ("", "images", "../images")
"""Where the images of a COCO file lie, seen from it; the first that has one is taken."""


class Coco:
    """See `llava_viewer.data.kind.Kind`."""

    def fits(self, path: Path) -> int:
        """By its ending."""
        return YES if path.suffix.lower() == ".json" and not path.is_dir() else NO

    def read(self, asked: Asked) -> Data:
        """An entry an image."""
        entries, own, flat = _entries(asked.path)
        said = f" (boxes without area, left out: {flat})" if flat else ""
        return Data(f"a COCO file{said}", asked.images or own, entries)


def _entries(path: Path) -> tuple[Iterator[Entry], Path, int]:
    """The images of a COCO file in its order, the folder that their names count from, and how many boxes were left out.

    Crowd regions, whose boxes are of many things, are no truth; boxes without area, which COCO's own files have some
    of, are left out and counted.

    Raises:
        DataError: it is no COCO file.
        OSError: it cannot be read.
    """
    try:
        plain = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name}: got no JSON ({error}), expected a COCO file") from None
    if not isinstance(plain, dict):
        raise DataError(f"{path.name}: got {beginning(plain)}, expected a COCO file, an object with images")
    images = _listed(path, plain, "images")
    names = {
        _id(path, "categories", one, "id"): str(one.get("name"))
        for one in _listed(path, plain, "categories", may_lack=True)
    }
    boxes: dict[Any, dict[str, list[Any]]] = defaultdict(dict)
    flat = 0
    for number, one in enumerate(_listed(path, plain, "annotations", may_lack=True)):
        if "bbox" in one and not one.get("iscrowd"):
            corners = _corners(path, number, one["bbox"])
            if corners is None:
                flat += 1
                continue
            category = _id(path, "annotations", one, "category_id")
            name = names.get(category, str(category))
            boxes[_id(path, "annotations", one, "image_id")].setdefault(name, []).append(corners)
    entries = (
        Entry(f"{path.name} image {number}", one.get("file_name"), own, boxes=boxes.get(own))
        for number, one, own in [(n, one, _id(path, "images", one, "id")) for n, one in enumerate(images)]
    )
    return entries, _folder(path, images), flat


def _listed(path: Path, plain: Mapping[str, Any], name: str, *, may_lack: bool = False) -> list[Mapping[str, Any]]:
    found = plain.get(name, [] if may_lack else None)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise DataError(f"{path.name}, {name}: got {beginning(found)}, expected a list of objects, as COCO files have")
    return found


def _id(path: Path, where: str, one: Mapping[str, Any], name: str) -> Any:
    """A number or text that tells images, or categories, apart; None where there is none.

    Raises:
        DataError: it is a list or an object.
    """
    found = one.get(name)
    if isinstance(found, list | dict):
        raise DataError(f"{path.name}, {where}, {name}: got {beginning(found)}, expected a number or a text")
    return found


def _corners(path: Path, number: int, box: Any) -> list[float] | None:
    """x0, y0, x1, y1 in px, or None for a box without area."""
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(one, int | float) for one in box):
        raise DataError(
            f"{path.name} annotation {number}, bbox: got {beginning(box)}, expected [x, y, width, height] in px"
        )
    x, y, width, height = (float(one) for one in box)
    return [x, y, x + width, y + height] if width > 0 and height > 0 else None


def _folder(path: Path, images: list[Mapping[str, Any]]) -> Path:
    first = str(images[0].get("file_name")) if images else ""
    places = (path.parent / name for name in _FOLDERS)
    return next((place for place in places if (place / first).is_file()), path.parent)
