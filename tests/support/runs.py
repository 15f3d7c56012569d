"""Dataset runs without a model: images, questions about them, and an `Asks` that answers with made records."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from llava_viewer.data.items import Item, digest_of, items_of
from llava_viewer.data.reading import read_data
from llava_viewer.runs.asking import Answered, Chunk, image_of
from llava_viewer.runs.claims import Claims
from llava_viewer.runs.work import CLAIMS, Worker, check_parts
from llava_viewer.store.about import About, begun
from llava_wire import encode
from llava_wire.errors import RequestError
from support.synthetic import make_picture, make_record


def data_of(folder: Path, count: int, *, missing: Sequence[int] = ()) -> Path:
    """A folder of small images and JSON lines that ask about each; those of `missing` have no file."""
    (folder / "images").mkdir(parents=True)
    lines = []
    for n in range(count):
        if n not in missing:
            make_picture(64, 48, seed=n).save(folder / "images" / f"{n}.png")
        lines.append(
            {"id": f"q{n}", "image": f"images/{n}.png", "prompt": f"What is in {n}?", "answer": "a red circle"}
        )
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def record_of(item: Item) -> bytes:
    """The record that `Made` answers an item with."""
    return _record(item.n, item.prompt)


@functools.cache
def _record(seed: int, prompt: str) -> bytes:
    record = make_record(
        width_px=64, height_px=48, grid=4, patch_px=8, words=(" a", " red", " circle"), prompt=prompt,
        reductions=("layers_heads",), seed=seed, with_picture=False,
    )  # fmt: skip
    return encode(record)


class Made:
    """Answers every question with a record of its own, and images that cannot be read with the error.

    Args:
        images: the folder that paths of images count from.
        seconds: what each answer takes.
        before: is called with every item; what it raises ends the run, what it returns is the answer.
    """

    def __init__(
        self, images: Path, seconds: float = 0.0, before: Callable[[Item], bytes | Exception | None] = lambda item: None
    ) -> None:
        self._images, self._seconds, self._before = images, seconds, before
        self.asked: list[str] = []

    def answers(self, chunks: Iterator[Chunk]) -> Generator[Answered, None, None]:
        """See `llava_viewer.runs.asking.Asks`; the items of a chunk in reverse, as answers come in any order."""
        for chunk in chunks:
            for item in reversed(chunk.items):
                self.asked.append(item.id)
                time.sleep(self._seconds)
                reply = self._before(item)
                if reply is None:
                    try:
                        image_of(item, self._images)
                        reply = record_of(item)
                    except (OSError, RequestError) as error:
                        reply = error
                yield item, reply

    def close(self) -> None:
        """See `Asks`."""


def items_in(data: Path) -> list[Item]:
    """The items of a file."""
    return items_of(read_data(data, {}).entries, ())


def about_of(data: Path, items: Sequence[Item], chunk: int = 5, rule: str = "contains") -> About:
    """What a run of a file says of itself."""
    return About(data, data.parent, digest_of(items), len(items), chunk, rule=rule)


def worked(out: Path, data: Path, asks: Made, chunk: int = 5) -> int:
    """Starts one worker, until nothing is left, as the command does; how many items were done before."""
    items = items_in(data)
    about = begun(out, about_of(data, items, chunk))
    done = check_parts(out, about, items)
    with Claims(out / CLAIMS) as claims:
        Worker(out, about, items, asks, claims).run()
    return done
