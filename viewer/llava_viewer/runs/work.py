"""One worker of a run: takes chunks that nobody has, asks, and writes each as a part, whole or not at all.

Flow: items in chunks -> `Claims` -> `Asks` -> record or error of each -> `PartWriter` -> a part in its place. A part
that is there is done; so whoever starts again, after a kill, a full disk or a reboot, goes on with the others.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llava_viewer.data.items import Item, digest_of
from llava_viewer.judging import RULES
from llava_viewer.look.picture import PictureError, prepare_picture
from llava_viewer.runs.asking import Asks, Chunk, image_of, of_run
from llava_viewer.runs.claims import Claims
from llava_viewer.store.about import About, same_model
from llava_viewer.store.part import PartWriter, Row, StoreError, read_header
from llava_viewer.store.rows import error_row, row_of
from llava_viewer.store.store import part_path
from llava_wire.container import decode
from llava_wire.errors import RecordError
from llava_wire.writing import encode

CLAIMS = "claims"
"""The folder of a store that holds who works on what."""
FIRST_IMAGE = "first_image"
"""In the header of a part: the digest of its first item's image file."""
_FAILED_IN_A_ROW = 50
"""So many items one after another without a record are no accident."""
_OF_ITEMS = ("file", "record", "unsupported_media", "too_large", "bad_request")
"""Codes of errors that are an item's own, however many there are."""


@dataclass
class _Open:
    """A chunk that is being asked about."""

    chunk: Chunk
    part: PartWriter
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.chunk.items)


class Worker:
    """Works on a run until nothing is left that it may take.

    Args:
        folder: the store's.
        about: the run.
        items: all of them, in order.
        asks: what answers.
        claims: of this worker.
        told: gets the row of every item as it is answered.
    """

    def __init__(
        self,
        folder: Path,
        about: About,
        items: Sequence[Item],
        asks: Asks,
        claims: Claims,
        told: Callable[[Row], None] = lambda row: None,
    ) -> None:
        self._folder, self._about, self._items = folder, about, items
        self._asks, self._claims, self._told = asks, claims, told
        self._open: dict[int, _Open] = {}
        self._failed = 0

    def run(self) -> None:
        """Asks about every chunk that is neither done nor somebody else's, and looks again at its end: what a worker
        had that has died meanwhile is asked about, too.

        Raises:
            RequestError: nothing more can be answered; what is finished stays.
            StoreError: the model is another one than the run's.
            OSError: nothing can be written.
        """
        try:
            while (first := next(chunks := self._chunks(), None)) is not None:
                self._ask(itertools.chain([first], chunks))
        finally:
            for opened in self._open.values():
                opened.part.discard()

    def _ask(self, chunks: Iterator[Chunk]) -> None:
        with contextlib.closing(self._asks.answers(chunks)) as answers:
            for item, reply in answers:
                opened = self._open[item.n // self._about.chunk]
                row, record = self._row(item, reply)
                opened.part.add(row, record)
                self._told(row)
                opened.left -= 1
                if not opened.left:
                    self._finish(opened)

    def _chunks(self) -> Iterator[Chunk]:
        """Every chunk that can be taken now, as it is asked for."""
        size = self._about.chunk
        for number in range(self._about.chunks):
            path = part_path(self._folder, number)
            if path.exists():
                self._claims.others.pop(number, None)  # whoever had it has finished it
                continue
            if not self._claims.take(number):
                continue
            if path.exists():  # finished between the two looks
                self._claims.release(number)
                continue
            chunk = Chunk(number, self._items[number * size : (number + 1) * size])
            self._open[number] = _Open(chunk, PartWriter(path, self._partial(path), number))
            yield chunk

    @staticmethod
    def _partial(path: Path) -> Path:
        """Where a part is written; what a worker that was killed left there is removed."""
        path.parent.mkdir(exist_ok=True)
        for left in path.parent.glob(f".{path.name}.*.partial"):
            left.unlink(missing_ok=True)
        return path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")

    def _finish(self, opened: _Open) -> None:
        number = opened.chunk.number
        if self._claims.holds(number):
            image = first_image(opened.chunk.items, self._about.images)
            opened.part.finish({"digest": digest_of(opened.chunk.items), FIRST_IMAGE: image})
        else:  # this worker slept for so long that others took it for dead
            opened.part.discard()
        del self._open[number]
        self._claims.release(number)

    def _row(self, item: Item, reply: bytes | Exception) -> tuple[Row, bytes | None]:
        """What the table says of an item, and its record.

        Raises:
            RequestError: of an error that is the run's, or of too many in a row.
            StoreError: of another model.
        """
        facts = item.facts()
        if isinstance(reply, bytes):
            try:
                return self._answered(item, reply)
            except RecordError as error:
                reply = error
        row = error_row(facts, reply)
        self._failed += row["error"]["code"] not in _OF_ITEMS
        if of_run(reply) or self._failed >= _FAILED_IN_A_ROW:
            raise reply
        return row, None

    def _answered(self, item: Item, reply: bytes) -> tuple[Row, bytes]:
        record = decode(reply)
        same_model(self._folder, record.facts.model)
        self._failed = 0
        if self._about.pictures:
            with contextlib.suppress(PictureError):  # the answer is worth more than the picture
                record = record.with_pictures([prepare_picture(image_of(item, self._about.images))])
                reply = encode(record)
        judged = bool(self._about.rule and item.expected)
        right = RULES[self._about.rule](record.answer, item.expected) if judged else None
        return row_of(item.facts(), record, rule=self._about.rule if judged else "", right=right), reply


def check_parts(folder: Path, about: About, items: Sequence[Item]) -> int:
    """How many items are done; what lies there must be of these items, and the first image of each part as it was.

    Raises:
        StoreError: a part is of other items or images, or damaged.
    """
    done = 0
    for number in range(about.chunks):
        path = part_path(folder, number)
        if not path.exists():
            continue
        chunk = items[number * about.chunk : (number + 1) * about.chunk]
        header = read_header(path)
        if header.get("digest") != digest_of(chunk):
            raise StoreError(f"{path}: got a part of other items, expected those of the data; remove it")
        now, then = first_image(chunk, about.images), header.get(FIRST_IMAGE)
        if now and then and now != then:
            raise StoreError(
                f"{path}: got answers about another file {chunk[0].image!r} than {about.images} has now, expected the "
                "same; put the images back, or name another folder (-o)"
            )
        done += len(chunk)
    return done


def first_image(items: Sequence[Item], folder: Path) -> str:
    """SHA-256 of the image file of the first item, which stands for those of its part; "" where it cannot be read."""
    try:
        return hashlib.sha256(image_of(items[0], folder)).hexdigest()
    except (OSError, RecordError):
        return ""
