"""What a kind of data is, the door by which it comes in, and how an image inside a file is named.

Flow: path -> the `Kind` that fits it -> `Data`: entries one after another, whose images are paths, or `inside` a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from llava_doors.door import Door

KINDS = Door("kind of data", "llava_gaze.data", "llava_viewer.data.kinds")
"""All kinds of data: the modules of `llava_viewer.data.kinds`, and entry points of the group `llava_gaze.data`."""
HOLDS = "holds"
"""The trait of a declaration that lists the endings of files whose images its class reads: a `Holder`."""
NO, PERHAPS, YES, BY_ITS_MARK = range(4)
"""How well a path fits a kind; the best one takes it."""


class DataError(ValueError):
    """Data that cannot be asked about: "where, field: got X, expected Y; do Z"."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the data says of one image, before it is checked; None is what it does not say.

    Args:
        where: for messages: "birds.jsonl line 3".
        image: the path of a file from the folder of images, or `inside` of one.
    """

    where: str
    image: Any
    id: Any = None
    prompts: Any = None
    expected: Any = None
    boxes: Any = None
    tags: Any = None


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


@dataclass(frozen=True)
class Asked:
    """What is asked of a kind.

    Args:
        path: a file or folder, or what the kind takes for several.
        columns: what a column means -> its name, "" for none.
        images: the folder that paths of images count from; None for the data's own.
        needs_images: whether data without a column of images is refused.
    """

    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    images: Path | None = None
    needs_images: bool = True


class Kind(Protocol):
    """A kind of data; a class behind the door."""

    def fits(self, path: Path) -> int:
        """How well a path fits: NO, PERHAPS (where no other kind takes it), YES, or BY_ITS_MARK."""

    def read(self, asked: Asked) -> Data:
        """Opens data.

        Raises:
            DataError: it is not as it should be.
            OSError: it cannot be read.
        """


class Holder(Protocol):
    """A kind of data whose declaration `HOLDS` endings: of files that images are inside of."""

    def image(self, file: Path, member: str, number: int) -> bytes:
        """The bytes of an image inside a file with one of these endings.

        Args:
            file: where it is; member, number: as `inside` was told.

        Raises:
            OSError: it is not there any more.
        """


def inside(file: str, member: str, number: int) -> str:
    """What an image inside a file is called.

    Args:
        file: the file's path from the folder of images.
        member: its name there, for people and for finding another one in its place.
        number: by which it is found: a byte, a row.
    """
    return f"{file}::{member}@{number}"
