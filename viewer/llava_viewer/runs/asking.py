"""What answers a run's questions: a server, or an engine in a process beside; and what to do about refusals.

Flow: chunks of items -> `Asks.answers` -> each item with its record's file or with what went wrong, in any order.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from llava_viewer.client.errors import ServerUnreachable
from llava_viewer.data.images import image_bytes
from llava_viewer.data.items import Item
from llava_wire.errors import RequestError

Answered = tuple[Item, bytes | Exception]
"""An item, and its record's file or the error that it has instead."""


@dataclass(frozen=True)
class Chunk:
    """Items that one worker asks about and keeps as one part."""

    number: int
    items: Sequence[Item]


class Asks(Protocol):
    """What answers."""

    def answers(self, chunks: Iterator[Chunk]) -> Generator[Answered, None, None]:
        """Answers every item of the chunks, which are taken as they are needed.

        Raises:
            RequestError: nothing more can be answered.
        """

    def close(self) -> None:
        """Ends what it started."""


def of_run(error: Exception) -> bool:
    """Whether an error is about the run and not about one item: the next one would meet it too."""
    if not isinstance(error, RequestError):
        return False
    if isinstance(error, ServerUnreachable) or error.code in ("unauthorized", "not_found", "overloaded", "unavailable"):
        return True
    return error.code == "invalid" and error.field.startswith("options")


def image_of(item: Item, folder: Path) -> bytes:
    """An item's image file.

    Raises:
        OSError, RecordError: it cannot be read, or is too large.
    """
    return image_bytes(folder, item.image)
