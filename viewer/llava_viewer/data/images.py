"""The image that an item names: a file, or a part of one, read by its place.

Flow: "a.png", or "shard.tar::a.png@1536" -> the kind of data that holds images in such files -> bytes.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from llava_viewer.data.kind import HOLDS, KINDS, Holder
from llava_wire.container import read_file

_IN, _AT = "::", "@"


class _Place(NamedTuple):
    """An image inside a file."""

    holder: Holder
    file: str
    member: str
    number: int


def image_bytes(folder: Path, image: str) -> bytes:
    """An image's file, as it is.

    Args:
        folder: that its path counts from.
        image: its path, or its place inside a file.

    Raises:
        OSError, RecordError: it cannot be read, or is too large.
    """
    place = _place(folder, image)
    if place is None:
        return read_file(folder / image)
    try:
        return place.holder.image(folder / place.file, place.member, place.number)
    except ImportError as error:
        raise OSError(errno.ENOSYS, str(error)) from error


def image_stream(folder: Path, image: str) -> BinaryIO:
    """The same, to read as much of it as is needed.

    Raises:
        OSError, RecordError: it cannot be read, or is too large.
    """
    return (folder / image).open("rb") if _place(folder, image) is None else io.BytesIO(image_bytes(folder, image))


def image_file(folder: Path, image: str) -> Path:
    """The file that an image is, or is in."""
    place = _place(folder, image)
    return folder / (image if place is None else place.file)


def image_name(image: str) -> str:
    """An image's name without folders: that of its file, or of its part of one."""
    place = _placed(image)
    return Path(image if place is None else place.member).name


def _place(folder: Path, image: str) -> _Place | None:
    """An image's place inside a file; None where it is a file itself, whatever it is called."""
    place = _placed(image)
    return None if place is None or (folder / image).is_file() else place


def _placed(image: str) -> _Place | None:
    before, mark, number = image.rpartition(_AT)
    if not mark or not number.isdecimal():
        return None
    at = before.find(_IN)
    while at >= 0:
        holder = _holders().get(Path(before[:at]).suffix.lower())
        if holder is not None:
            return _Place(holder, before[:at], before[at + len(_IN) :], int(number))
        at = before.find(_IN, at + 1)
    return None


def _holders() -> Mapping[str, Holder]:
    """What reads images inside files, by the files' endings."""
    known = KINDS.known().items()
    return {ending: KINDS.load(name) for name, one in known for ending in one.traits.get(HOLDS, ())}
