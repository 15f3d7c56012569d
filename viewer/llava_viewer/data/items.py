"""What a run asks: one item for each image and prompt, told apart by ids, with what the data knows of the answer.

Flow: entries of a kind of data (`kind`) -> `Item`s, each prompt of an image one, numbered -> a digest of them all.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava_viewer.data.images import image_file
from llava_viewer.data.kind import DataError, Entry
from llava_wire.errors import beginning

Boxes = Mapping[str, Sequence[Sequence[float]]]
"""Phrase -> boxes [x0, y0, x1, y1] in px of the upright image."""
MOST_ID_CHARS = 200


@dataclass(frozen=True, slots=True)
class Item:
    """One question about one image.

    Args:
        n: its number, from 0.
        id: tells it from all others of the run.
        image: the file's path as the data has it, from the run's folder of images; or its place inside a file.
        prompt: the question.
        expected: the right answer, "" where the data has none; boxes, tags: None where it has none.
    """

    n: int
    id: str
    image: str
    prompt: str
    expected: str = ""
    boxes: Boxes | None = None
    tags: tuple[str, ...] | None = None

    def facts(self) -> dict[str, Any]:
        """What a row of the table repeats of it."""
        tags = list(self.tags) if self.tags else None
        return {
            "n": self.n, "id": self.id, "image": self.image, "prompt": self.prompt, "expected": self.expected or None,
            "boxes": self.boxes or None, "tags": tags,
        }  # fmt: skip


def items_of(entries: Iterable[Entry], prompts: Sequence[str], limit: int | None = None) -> list[Item]:
    """The items of a run.

    Args:
        entries: what a reader found, in order.
        prompts: asked about every image that brings none of its own.
        limit: take no more.

    Raises:
        DataError: an entry is wrong, an id is there twice, or there is none at all.
    """
    found: list[Item] = []
    seen: dict[str, str] = {}
    asked_about: Counter[str] = Counter()
    for entry in entries:
        image, asked = _image(entry), _prompts(entry, prompts)
        boxes, tags = checked_boxes(entry.where, entry.boxes), _tags(entry)
        expected = _expected(entry)
        own = _id(entry, image)
        for name, texts in (("image", [image]), ("prompt", asked), ("expected", [expected]), ("tags", tags or ()),
                            ("boxes", boxes or ())):  # fmt: skip
            _check_utf8(f"{entry.where}, {name}", texts)
        for number, prompt in enumerate(asked):
            if limit is not None and len(found) >= limit:
                return found
            # An image that the data has no ids for may come again, with another question.
            number = asked_about[own] if entry.id is None else number
            asked_about[own] += 1
            id = f"{own}#{number}" if number else own
            if id in seen:
                raise DataError(
                    f"{entry.where}, id: got {id!r}, which {seen[id]} has, expected each once; name a column that "
                    "tells them apart (--column id=NAME), or none (--column id=)"
                )
            seen[id] = entry.where
            found.append(Item(len(found), id, image, prompt, expected, boxes, tags))
    if not found:
        raise DataError("data: got no item, expected an image with a prompt; name other data")
    return found


def checked_boxes(where: str, given: Any) -> Boxes | None:
    """Boxes by phrase as they were given, each phrase with a list of them; None where there is none.

    Args:
        where: for messages.
        given: phrase -> box or boxes, or None.

    Raises:
        DataError: they are something else.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise DataError(f"{where}, boxes: got {beginning(given)}, expected an object: phrase -> [x0, y0, x1, y1]")
    found: dict[str, list[list[float]]] = {}
    for phrase, boxes in given.items():
        several = isinstance(boxes, list) and bool(boxes) and all(isinstance(one, list) for one in boxes)
        listed = boxes if several else [boxes]
        for box in listed:
            if not _is_box(box):
                raise DataError(
                    f"{where}, boxes.{phrase:.80}: got {beginning(box)}, expected [x0, y0, x1, y1] in px with "
                    "x0 < x1 and y0 < y1"
                )
        found[str(phrase)] = [[float(number) for number in box] for box in listed]
    return found or None


def digest_of(items: Iterable[Item]) -> str:
    """What changes with any item."""
    state = hashlib.sha256()
    for item in items:
        state.update(json.dumps(item.facts(), ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
    return state.hexdigest()


def check_images(items: Sequence[Item], folder: Path, tried: int = 20) -> None:
    """Refuses data whose first images are all missing: the folder is another one. A few that miss are their rows'.

    Raises:
        DataError: naming the first and where it was looked for.
    """
    if not any(image_file(folder, item.image).is_file() for item in items[:tried]):
        raise DataError(
            f"image: got {items[0].image!r}, expected a file in {folder.resolve()}; name the folder that the paths "
            "count from (--images)"
        )


def _check_utf8(where: str, texts: Iterable[str]) -> None:
    """Refuses half a character, which no part of a store can hold."""
    for text in texts:
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise DataError(f"{where}: got {text!r:.80}, half a character, expected text that UTF-8 can hold; mend it")


def _image(entry: Entry) -> str:
    if not isinstance(entry.image, str) or not entry.image or "\0" in entry.image:
        got = "nothing" if entry.image is None else beginning(entry.image)
        raise DataError(f"{entry.where}, image: got {got}, expected the path of a file; name its column (--column)")
    return entry.image


def _prompts(entry: Entry, usual: Sequence[str]) -> Sequence[str]:
    given = [entry.prompts] if isinstance(entry.prompts, str) else entry.prompts
    asked = usual if given is None else given
    if (
        not isinstance(asked, list | tuple)
        or not asked
        or not all(isinstance(one, str) and one.strip() for one in asked)
    ):
        raise DataError(
            f"{entry.where}, prompt: got {'nothing' if entry.prompts is None else beginning(entry.prompts)}, expected "
            "a question, or a list of them; name its column (--column prompt=NAME), or say --prompt"
        )
    return asked


def _id(entry: Entry, image: str) -> str:
    own = image.replace("::", "/") if entry.id is None else entry.id
    if isinstance(own, bool) or not isinstance(own, str | int) or not str(own) or len(str(own)) > MOST_ID_CHARS:
        raise DataError(f"{entry.where}, id: got {beginning(own)}, expected a text of up to {MOST_ID_CHARS} characters")
    if not str(own).isprintable() or "::" in str(own):
        raise DataError(f"{entry.where}, id: got {beginning(own)}, expected no ::, line break or control character")
    return str(own)


def _expected(entry: Entry) -> str:
    if entry.expected is None:
        return ""
    if isinstance(entry.expected, bool) or not isinstance(entry.expected, str | int | float):
        raise DataError(f"{entry.where}, expected: got {beginning(entry.expected)}, expected a text")
    if str(entry.expected) and not str(entry.expected).strip():
        raise DataError(f"{entry.where}, expected: got white space alone, expected a text; leave it out")
    return str(entry.expected)


def _tags(entry: Entry) -> tuple[str, ...] | None:
    given = [entry.tags] if isinstance(entry.tags, str) else entry.tags
    if given is None:
        return None
    if not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given):
        raise DataError(f"{entry.where}, tags: got {beginning(given)}, expected a list of words")
    return tuple(dict.fromkeys(given))


_FARTHEST_PX = 1e9
"""Where a box's corner may lie at most; not a number is no place either."""


def _is_box(box: object) -> bool:
    if not isinstance(box, list | tuple) or len(box) != 4:
        return False
    if not all(isinstance(one, int | float) and not isinstance(one, bool) and abs(one) <= _FARTHEST_PX for one in box):
        return False
    return bool(box[0] < box[2] and box[1] < box[3])
