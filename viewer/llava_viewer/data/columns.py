"""Tables: which column means what, named by the caller or guessed by its name; what was guessed is told.

Flow: names and rows of a table -> meanings -> `Entry`s one after another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llava_viewer.data.kind import Asked, Data, DataError, Entry
from llava_wire.errors import nearest

FIELDS = ("image", "prompt", "id", "expected", "boxes", "tags")
"""What a column may mean."""
NAMES = {
    "image": ("image", "image_path", "img_path", "img", "file_name", "filename", "file", "path"),
    "prompt": ("prompt", "prompts", "question", "questions", "query", "instruction", "text"),
    "id": ("id", "question_id", "qid", "uid", "key"),
    "expected": ("expected", "answer", "gt_answer", "label", "target"),
    "boxes": ("boxes", "bboxes"),
    "tags": ("tags", "tag", "category"),
}
"""By which names a column is recognised, the likeliest first."""
Rows = Iterable[tuple[str, Mapping[str, Any]]]
"""Rows by column, each behind where it stands."""


def table(
    asked: Asked,
    kind: str,
    names: Sequence[str],
    rows: Rows,
    images: Path,
    known: Mapping[str, Sequence[str]] | None = None,
) -> Data:
    """Data that is a table.

    Args:
        asked: what was asked of the kind.
        kind: in words.
        names: of all columns.
        rows: one after another.
        images: the folder that paths of images count from, unless another one was asked for.
        known: the names that columns of such tables are recognised by, where they are not the usual ones.

    Raises:
        DataError: a column that was named is not there, or there is none of images.
    """
    meant = _meant(list(names), asked, {**NAMES, **(known or {})})
    return Data(kind, asked.images or images, _entries(rows, meant), meant)


def of_utf8(path: Path, lines: Iterable[str]) -> Iterator[str]:
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


def _meant(names: list[str], asked: Asked, known: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Which column means what: the named ones, and by their names those that nobody named."""
    meant: dict[str, str] = {}
    # A column that was named for one meaning is not guessed to have another.
    taken = set(asked.columns.values())
    lower = {name.lower(): name for name in reversed(names) if name not in taken}
    for meaning in FIELDS:
        if meaning in asked.columns:
            guess: str | None = asked.columns[meaning]
            if guess and guess not in names:
                raise DataError(
                    f"--column {meaning}: got {guess!r}, expected one of {', '.join(names)}{nearest(guess, names)}"
                )
        else:
            guess = next((lower[name.lower()] for name in known[meaning] if name.lower() in lower), None)
        if guess:
            meant[meaning] = guess
    if asked.needs_images and "image" not in meant:
        raise DataError(
            f"image: got the columns {', '.join(names)}, expected one with the paths of images; name it (--column "
            "image=NAME)"
        )
    return meant


def _entries(rows: Rows, meant: Mapping[str, str]) -> Iterator[Entry]:
    for where, row in rows:
        found = {meaning: row.get(name) for meaning, name in meant.items()}
        yield Entry(
            where, found.get("image"), found.get("id"), found.get("prompt"), found.get("expected"),
            found.get("boxes"), found.get("tags"),
        )  # fmt: skip
