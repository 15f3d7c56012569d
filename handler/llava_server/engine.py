"""LLaVA with its attention, in process: requests in, records out. The handler only calls this.

Flow: `GenerateRequest`s -> `Checked` requests (plan, prompt, size) -> batches that fit the device, pictures opened
meanwhile by a few threads -> decoding, replay or search -> methods -> `Record`s, in the order of the requests.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from llava_server.answer.builder import RecordBuilder
from llava_server.answer.sequences import together
from llava_server.answer.stream import StreamBuilder, StreamedToken
from llava_server.ask.checking import choice
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import ModelSettings
from llava_server.check.selftest import with_self_test
from llava_server.fit import estimate as sizes
from llava_server.fit.room import Room
from llava_server.load.loading import LoadedModel, load, prepare
from llava_server.load.locate import locate
from llava_server.load.memory import device_of, is_out_of_memory, release
from llava_server.look.painted import Painter
from llava_server.look.scorer import GREY, MEAN, UNSEEN, Baseline, PatchScorer, seen_at
from llava_server.read.images import open_image
from llava_server.run.batch import BatchRun
from llava_server.run.batching import Waiting, split
from llava_server.run.compiling import compiled_decoder
from llava_server.run.decoders import ModelDecoders
from llava_server.run.generate import Progress, steps_of
from llava_server.run.prepare import Prepared, Preparer, late
from llava_server.run.static import StaticDecoder
from llava_wire.errors import RequestError
from llava_wire.record import Record

_WINDOW = 32
"""Requests that `answers` looks at together: enough to fill a batch."""


class Engine:
    """A loaded model that answers requests with records; usable from several threads, which take turns.

    Args:
        loaded: model and processor, from `llava_server.load.loading`.
        settings: limits, default views, head sets, provenance.
        static: static buffers for decoding, or None to decode on a growing cache alone.
    """

    def __init__(self, loaded: LoadedModel, settings: ModelSettings, static: StaticDecoder | None = None) -> None:
        self.loaded = loaded
        self.settings = settings
        self._static = static
        self._preparer = Preparer(loaded, settings)
        self._pictures = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="picture")
        self._builder = RecordBuilder(loaded, settings)
        # A batch with its records, or one step of a stream, has the device at a time.
        self._turn = threading.Lock()
        # Records are made from the static buffers, so they belong to one batch, or one stream, until its end.
        self._buffers = threading.Lock()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        settings: Mapping[str, Any] | None = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> Engine:
        """Loads a model.

        Args:
            path: model_store/<model>, model_store/<model>.yaml, or any checkpoint folder.
            settings: a `handler:` section to use in place of a YAML's.
            device: "cpu", "cuda", "cuda:1" or "map"; None follows the settings.
            dtype: "float32", "float16" or "bfloat16"; None follows the settings.

        Raises:
            SettingsError: when the YAML or the checkpoint cannot be used.
        """
        located = locate(path, settings)
        chosen = located.settings
        if chosen.threads:
            torch.set_num_threads(chosen.threads)
        wanted = device_of(chosen, device)
        loaded = load(located.folder, chosen, device=wanted, dtype=dtype or chosen.dtype, cure=located.cure)
        static = compiled_decoder(loaded, chosen) if chosen.compile else None
        return cls(with_self_test(loaded, chosen, static), chosen, static)

    @classmethod
    def from_model(cls, model: Any, processor: Any, settings: ModelSettings | None = None) -> Engine:
        """Wraps a model and processor that are in memory already; the model's attention becomes the capturing one."""
        chosen = settings or ModelSettings()
        return cls(with_self_test(prepare(model, processor), chosen), chosen)

    def run(self, requests: Sequence[GenerateRequest]) -> list[Record | RequestError]:
        """Answers requests, batched under the byte budget; a refused request never harms the others.

        Args:
            requests: any mixture of options, replays included.

        Returns:
            one `Record` or `RequestError` per request, in order.
        """
        return list(self._in_order(requests))

    def answers(self, requests: Iterable[GenerateRequest]) -> Iterator[Record | RequestError]:
        """Answers any number of requests as `run` does, a window of them at a time, so that no long list is held.

        Args:
            requests: taken as they are needed; any mixture of options.

        Yields:
            one `Record` or `RequestError` per request, in order, as soon as it and all before it are finished.
        """
        coming = iter(requests)
        while window := list(itertools.islice(coming, _WINDOW)):
            yield from self._in_order(window)

    def _in_order(self, requests: Sequence[GenerateRequest]) -> Iterator[Record | RequestError]:
        """The results of some requests, each let go of once it was given away."""
        results: list[Record | RequestError | None] = [None] * len(requests)
        given = 0
        with self._turn:  # what another thread's batch holds now will be free when it is our turn
            room = self._room()
        waiting: list[Waiting] = []
        for index, request in enumerate(requests):
            try:
                checked = self._preparer.check(request, room)
                waiting.append(Waiting(index, checked, self._pictures.submit(self._preparer.finish, checked)))
            except RequestError as error:
                results[index] = error
        # Pictures of later batches are opened while the device runs the earlier ones.
        for batch in split(waiting, room, self.loaded):
            prepared: list[tuple[int, Prepared]] = []
            for entry in batch:
                try:
                    left_s = max(0.0, entry.checked.deadline_s - time.monotonic())
                    prepared.append((entry.index, entry.picture.result(left_s)))
                except TimeoutError:
                    # Its picture is still being opened; the rest of the batch waits no longer for it than it does.
                    entry.picture.cancel()
                    results[entry.index] = late(entry.checked)
                except RequestError as error:
                    results[entry.index] = error
            if not prepared:
                continue
            with self._turn:
                answers = self._run_batch([entry for _, entry in prepared])
            for (index, _), answer in zip(prepared, answers, strict=True):
                results[index] = answer
            del answers
            while given < len(results) and (result := results[given]) is not None:
                results[given], given = None, given + 1
                yield result
        yield from (result for result in results[given:] if result is not None)

    def stream(self, request: GenerateRequest) -> Iterator[StreamedToken | Record | RequestError]:
        """Answers one request token by token.

        Args:
            request: a question; no replay, no beams, no several sequences, no reduction "all".

        Yields:
            a `StreamedToken` for each token as it is produced, then the `Record` that `run` would give, or the
            `RequestError` that ended it. Between two of them other requests run; closing the iterator early stops the
            model and frees what the answer took.
        """
        try:
            streamed = replace(request, options=replace(request.options, stream=True))
            with self._turn:
                room = self._room()
            prepared = self._preparer.finish(self._preparer.check(streamed, room))
        except RequestError as error:
            yield error
            return
        with self._static_buffers() as static:
            yield from self._stream(prepared, static)

    def _stream(
        self, prepared: Prepared, static: StaticDecoder | None
    ) -> Iterator[StreamedToken | Record | RequestError]:
        item = prepared.items[0]
        builder, running = StreamBuilder(self._builder, item), steps_of(self.loaded, prepared.items, static)
        part: StreamedToken | Record | RequestError | None = None
        while part is None or isinstance(part, StreamedToken):
            with self._turn:
                is_late = part is None and time.monotonic() >= item.deadline_s
                part = late(prepared.checked) if is_late else self._next_part(prepared, builder, running)
            yield part

    def _next_part(
        self, prepared: Prepared, builder: StreamBuilder, running: Generator[Progress, None, BatchRun]
    ) -> StreamedToken | Record | RequestError:
        """The next token of a running stream, its record after the last, or why there is none."""
        try:
            try:
                return builder.token(next(running))
            except StopIteration as finished:
                return self._builder.build(
                    prepared.checked.request, prepared.items[0], finished.value, 0, 1, prepared.preprocess_ms
                )
        except RequestError as error:
            return error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            message = _first_line(error)
        running.close()
        release()
        return self._no_memory(prepared, message)

    @contextmanager
    def _static_buffers(self) -> Iterator[StaticDecoder | None]:
        """The static buffers; None without any, or while an open stream has them: then the growing cache serves."""
        if self._static is None or not self._buffers.acquire(blocking=False):
            yield None
            return
        try:
            yield self._static
        finally:
            self._buffers.release()

    def estimate(self, request: GenerateRequest) -> sizes.Estimate:
        """What a request would take, without running it; raises the same RequestError that `run` would return."""
        return self._preparer.check(request, self._room()).needed

    def scorer(
        self, record: Record | bytes, token: int, image: object = None, *, baseline: Baseline = MEAN
    ) -> PatchScorer:
        """The model, asked how probable a token of an answer stays when it sees only some of the patches.

        Args:
            record: a record of this model, or its file.
            token: the step of the answer whose token it is about.
            image: the image file, or a list of them; None takes what the record carries.
            baseline: what stands in the place of a hidden patch: "mean embedding" or "grey" (painted pixels).

        Raises:
            RequestError: as for a replay of the record, or a token that the answer does not have.
        """
        request = GenerateRequest.replay(record, UNSEEN, image)
        with self._turn:
            room = self._room()
        prepared = self._preparer.finish(self._preparer.check(request, room))
        seen = seen_at(self.loaded, prepared, token, room, choice(baseline, "baseline", (MEAN, GREY)))
        if baseline == MEAN:
            return PatchScorer(seen, self._turn)
        pictures = [open_image(one, self.settings.limits).pixels for one in request.images]
        return PatchScorer(seen, self._turn, Painter(seen, pictures))

    def _room(self) -> Room:
        return Room.of(self.loaded, self.settings.limits.batch_bytes)

    def _run_batch(self, batch: Sequence[Prepared]) -> list[Record | RequestError]:
        """Runs one batch; when the device runs out of memory, each request again alone, then a clear refusal."""
        if time.monotonic() >= min(entry.items[0].deadline_s for entry in batch):
            return self._drop_late(batch)
        try:
            return self._records(batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            message = _first_line(error)
        # Outside the except block: the traceback would keep the failed run's tensors alive.
        release()
        if len(batch) > 1:
            return [result for entry in batch for result in self._run_batch([entry])]
        return [self._no_memory(batch[0], message)]

    def _no_memory(self, entry: Prepared, message: str) -> RequestError:
        checked = entry.checked
        return RequestError(
            "does_not_fit",
            "options",
            f"got about {checked.needed.device_bytes} bytes of device memory, and it ran out ({message[:200]}), "
            f"expected {self._room().memory[0]}; {sizes.advice(checked.plan)}",
        )

    def _records(self, batch: Sequence[Prepared]) -> list[Record | RequestError]:
        """One record per request of a batch whose requests may run together."""
        decoding = batch[0].checked.plan.decoding
        groups = [decoding.found(entry.items, ModelDecoders(self.loaded)) for entry in batch]
        items = [item for group in groups for item in group]
        results, first = [], 0
        with self._static_buffers() as static:
            run = decoding.run(items, ModelDecoders(self.loaded, static))
            for entry, group in zip(batch, groups, strict=True):
                results.append(together(self._builder, entry, group, run, first, len(items)))
                first += len(group)
        return results

    def _drop_late(self, batch: Sequence[Prepared]) -> list[Record | RequestError]:
        """Refuses what is past its deadline before it started, and runs the rest."""
        now = time.monotonic()
        rest = [entry for entry in batch if entry.items[0].deadline_s > now]
        answers = iter(self._run_batch(rest) if rest else [])
        return [next(answers) if entry.items[0].deadline_s > now else late(entry.checked) for entry in batch]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
