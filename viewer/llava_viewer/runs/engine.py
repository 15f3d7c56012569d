"""A run's questions to the engine in a process beside this one, which keeps torch out of here.

Flow: chunks, each in the order of its prompts' lengths and images' sizes -> frames to `python -m llava_server.piped` ->
frames with records, read by a thread. When that process dies, another is started, and what it had begun is asked
one by one, so that whatever kills it is found.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image as PillowImage

from llava_viewer.client.transport.process import EngineProcess
from llava_viewer.data.images import image_stream
from llava_viewer.data.items import Item
from llava_viewer.runs.asking import Answered, Chunk, image_of
from llava_wire.errors import RecordError, RequestError

_AHEAD = 96
"""Questions that are with the engine at a time: what it works on and what it reads meanwhile."""
_STRIKES = 2
"""So often may the engine die over an item before that item is given up."""
_DEATHS_IN_A_ROW = 3
"""So often may it die without an answer in between before the run stops."""


class PipedEngine:
    """An engine that answers a run.

    Args:
        command: as `llava_viewer.client.transport.process.command_of` gives it.
        options: of every request.
        images: the folder that paths of images count from.
        say: gets lines for people.
    """

    def __init__(
        self,
        command: Sequence[str],
        options: Mapping[str, Any],
        images: Path,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._command = command
        self._options, self._images, self._say = dict(options), images, say
        self._process: EngineProcess | None = None
        self._waiting: dict[int, Item] = {}
        self._begun: list[int] = []
        self._strikes: Counter[int] = Counter()
        self._deaths = 0

    def answers(self, chunks: Iterator[Chunk]) -> Generator[Answered, None, None]:
        """See `Asks.answers`."""
        first = next(chunks, None)
        if first is None:  # others do what is left: no model is loaded for nothing
            return
        if self._process is None:
            self._process = EngineProcess.begun(self._command, self._say)
        for chunk in itertools.chain([first], chunks):
            for item in sorted(chunk.items, key=self._extent):
                try:
                    image = image_of(item, self._images)
                except (OSError, RecordError) as error:
                    yield item, error
                    continue
                self._waiting[item.n] = item
                self._send(item, image)
                while len(self._waiting) >= _AHEAD:
                    yield from self._next()
            self._flush()
        while self._waiting:
            yield from self._next()

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.close()

    def _extent(self, item: Item) -> tuple[int, int, int]:
        """What decides a batch's padding: neighbours should be alike."""
        try:
            with image_stream(self._images, item.image) as stream, PillowImage.open(stream) as opened:
                pixels = opened.width * opened.height
        except Exception:  # told when the item's turn comes
            pixels = 0
        return pixels, len(item.prompt), item.n

    def _send(self, item: Item, image: bytes, *, alone: bool = False) -> None:
        self._write({"n": item.n, "prompt": item.prompt, "options": self._options}, [image])
        if alone:
            self._flush()

    def _flush(self) -> None:
        self._write({"flush": True}, [])

    def _write(self, plain: dict[str, Any], parts: list[bytes]) -> None:
        assert self._process is not None
        self._process.write(plain, parts)

    def _next(self) -> Iterator[Answered]:
        """What the engine says next: an answer, or its end, and then what is to be told of that."""
        assert self._process is not None
        frame = self._process.read()
        if frame is None:
            yield from self._died()
            return
        plain, parts = frame
        if "begun" in plain:
            self._begun = plain["begun"]
            return
        item = self._waiting.pop(plain["n"])
        self._deaths = 0
        error = RequestError.from_body(plain.get("error"))
        yield item, parts[0] if parts else error or RequestError("internal", "engine", "got no record, expected one")

    def _died(self) -> Iterator[Answered]:
        """Starts another engine; what the last one had begun is asked again, one by one, the rest as before."""
        assert self._process is not None
        code = self._process.ended()
        self._deaths += 1
        if self._deaths > _DEATHS_IN_A_ROW:
            raise RequestError(
                "unavailable", "engine",
                f"got {self._deaths} ends in a row without an answer (exit code {code}), expected one that runs; see "
                "what it printed above; the same command goes on with the run",
            )  # fmt: skip
        suspects = [n for n in self._begun if n in self._waiting]
        self._strikes.update(suspects)
        self._say(f"the engine died (exit code {code}) over {len(suspects)} items; starting it again")
        self._begun = []
        self._process = EngineProcess.begun(self._command, self._say)
        for n in suspects:
            if self._strikes[n] >= _STRIKES:
                item = self._waiting.pop(n)
                message = f"got an engine that died {self._strikes[n]} times (exit code {code}), expected a record"
                yield item, RequestError("worker_died", "image", f"{message}; ask for less about this image")
        for n in suspects:
            if n in self._waiting:
                self._send(self._waiting[n], image_of(self._waiting[n], self._images), alone=True)
        for n in [n for n in self._waiting if n not in suspects]:
            self._send(self._waiting[n], image_of(self._waiting[n], self._images))
        self._flush()
