"""A finished run to a record.

Flow: tokens + attention rows -> reductions -> quantised views; tokens -> checks of the answer -> `Record`.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import torch

from llava_doors.check import Answer
from llava_doors.method import Maps
from llava_server.answer.checked import checked
from llava_server.answer.queries import mean_steps, out_of_sight, query_table, with_last_step
from llava_server.answer.stored import rounded, stored, text_of
from llava_server.answer.tokens import AnswerReader, Vocabulary, prompt_texts
from llava_server.ask.decoding import Chosen
from llava_server.ask.methods import DEFAULT_METHOD
from llava_server.ask.plan import ViewPlan
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import ModelSettings
from llava_server.attend.rows import RowLayout
from llava_server.fit.looking import Reached, passes_of
from llava_server.load.loading import LoadedModel
from llava_server.look.pace import Pace
from llava_server.look.reduce import ReducedView, reduced_views, to_host
from llava_server.look.seen import Seen
from llava_server.read.plaintext import special_ids
from llava_server.run.batch import BatchItem, BatchRun, layout_of
from llava_server.run.generate import Progress
from llava_wire.codes.quantize import BLOCKS
from llava_wire.errors import RequestError
from llava_wire.grids import Grid, runs_of
from llava_wire.record import Record
from llava_wire.schema import Facts, Model, Note, Prompt, Query, Token
from llava_wire.view import TextView, View


class RecordBuilder:
    """Makes records for one loaded model."""

    def __init__(self, loaded: LoadedModel, settings: ModelSettings) -> None:
        self._loaded = loaded
        self._tokenizer = loaded.processor.tokenizer
        special = special_ids(self._tokenizer) | {*loaded.eos_ids, loaded.family.image_token_id}
        self._special = frozenset(special)
        self._vocabulary = Vocabulary(self._tokenizer, special)
        self._model = Model(
            name=settings.name,
            source=settings.source,
            revision=settings.revision,
            dtype=_dtype_name(loaded.model.dtype, settings.quantization),
            attention="sdpa; maps: float32 softmax of captured queries and cached keys",
            device=_device_name(loaded.device),
            layers=loaded.facts.layers,
            heads=loaded.facts.heads,
        )
        self._software = {
            **{name: _version(name) for name in ("llava-gaze", "torch", "transformers", "numpy")},
            "python": platform.python_version(),
        }

    def reader(self) -> AnswerReader:
        """Reads the tokens of one answer."""
        return AnswerReader(self._vocabulary)

    @torch.inference_mode()
    def build(
        self,
        request: GenerateRequest,
        item: BatchItem,
        run: BatchRun,
        index: int,
        batch: int,
        preprocess_ms: float,
        *,
        or_last: bool = False,
    ) -> Record | RequestError:
        """The record of one item of a batch, or a RequestError when it has no row to show or to average.

        Args:
            request: what was asked.
            item: its prepared form.
            run: the finished batch.
            index: the item's row in the batch.
            batch: the batch's size, for the run block.
            preprocess_ms: time spent on picture and prompt.
            or_last: an answer that ended before every step asked for shows its last step, with a note.
        """
        started = time.perf_counter()
        decoded, options = run.decoded[index], item.plan.options
        chosen = Chosen(item.seed, item.sequence, decoded.logprobs, self._loaded.choosing is None, item.sampling)
        tokens = self.reader().all(decoded)
        about_steps: tuple[Note, ...] = ()
        if or_last:
            item, about_steps = with_last_step(item, len(tokens))
            options = item.plan.options
        queries = query_table(item, len(tokens))
        answered = any(query.kind == "answer" for query in queries)
        if not queries or (not answered and any(view.reduction.over_steps for view in item.plan.views)):
            return RequestError(
                "invalid",
                "options.steps",
                f"got {list(options.steps)[:8]}, expected 0 to {len(tokens) - 1}: the answer ended",
            )
        numbers = [*decoded.logprobs, *(value for row in decoded.top_logprobs for value in row)]
        if not all(math.isfinite(number) for number in numbers):
            return _not_finite("logits", self._model.dtype)
        try:
            views, texts, about_views = self._views(item, run, index, queries, tokens)
            first = len(item.prompt.ids) - 1
            seen = self._seen(item, run, index, [first + step for step in range(len(tokens))])
            tokens, about_answer = checked(seen, Answer(tokens, queries, views))
        except RequestError as error:
            return error
        facts = Facts(
            answer="".join(token.text for token in tokens).strip(),
            finish_reason=decoded.finish_reason,
            prompt=Prompt(
                text=item.prompt.text,
                template=options.template,
                rendered=item.prompt.rendered,
                ids=item.prompt.ids,
                pieces=tuple(map(self._vocabulary.piece, item.prompt.ids)),
                texts=prompt_texts(self._vocabulary, item.prompt.ids),
                separators=runs_of(item.prompt.separators),
            ),
            images=item.images.facts,
            grids=_grids(item),
            model=self._model,
            tokens=tokens,
            queries=queries,
            sampling=item.plan.decoding.recorded(options, chosen),
            software=self._software,
            checks={name: dict(check) for name, check in {**self._loaded.checks, **about_answer}.items()},
            notes=(*self._loaded.notes, *item.prompt.notes, *item.images.notes, *about_steps, *about_views),
        )
        timings = {
            "batch_size": batch,
            "preprocess_ms": preprocess_ms,
            "prefill_ms": run.prefill_ms,
            "decode_ms": run.decode_ms,
            "attention_ms": (time.perf_counter() - started) * 1000,
        }
        run_block = {
            "finished_at": _utc_now(),
            "decoder": run.decoder,
            **{name: round(value, 3) for name, value in timings.items()},
        }
        return Record(facts, views, run_block, texts=texts)

    def _views(
        self, item: BatchItem, run: BatchRun, index: int, queries: tuple[Query, ...], tokens: tuple[Token, ...]
    ) -> tuple[dict[str, View], dict[str, TextView], tuple[Note, ...]]:
        """The views of one item, of patches and of text, reduced and stored, with what to say of them.

        Raises:
            RequestError: "internal", when maps are not finite or a method failed.
        """
        plan = item.plan
        steps = mean_steps(item, queries, tokens)
        mean_rows = torch.tensor([q.kind == "answer" and q.step in steps for q in queries])
        seen = self._seen(item, run, index, [query.position for query in queries])
        layout = seen.layout
        reach = Reached(layout.length, len(queries), layout.patches, seen.grids)
        pace = Pace(passes_of(plan.views, self._loaded.facts, reach), item.deadline_s, plan.deadline_ms)
        finished = reduced_views(plan.views, replace(seen, pace=pace), mean_rows)
        reduced = self._on_host(item, finished.views)
        patches, precision = [view for view in reduced if not view.plan.is_text], plan.options.precision
        views = {view.plan.name: stored(view, precision, steps, _grids(item)) for view in patches}
        texts = {view.plan.name: text_of(view, layout) for view in reduced if view.plan.is_text}
        about_rounding = [note for view in views.values() for note in rounded(view)]
        return views, texts, (*out_of_sight(finished, layout), *finished.notes, *about_rounding)

    def _seen(self, item: BatchItem, run: BatchRun, index: int, positions: list[int]) -> Seen:
        """The rows at some positions of one item of a finished batch."""
        layout = self._layout(item, run.decoded[index].pad, positions)
        return Seen(
            run.capture, run.keys, index, layout, self._loaded.device,
            loaded=self._loaded, asked=item, answer=run.decoded[index].ids, kept=run.values, special=self._special,
        )  # fmt: skip

    @torch.inference_mode()
    def row_views(self, item: BatchItem, progress: Progress, step: int) -> dict[str, View]:
        """The row of one step of a running batch of one, in every view, as the record will hold it.

        Raises:
            RequestError: "internal", when the attention is not finite.
        """
        device, views = self._loaded.device, item.plan.views
        layout = self._layout(item, progress.pads[0], [len(item.prompt.ids) - 1 + step])
        every = torch.ones(1, dtype=torch.bool)
        seen = Seen(
            progress.capture, progress.keys(), 0, layout, device,
            loaded=self._loaded, asked=item, answer=progress.log.ids(0),
            kept=progress.values() if item.plan.keeps_values else (), special=self._special,
        )  # fmt: skip
        finished = reduced_views(views, seen, every)
        precision, grids = item.plan.options.precision, _grids(item)
        reduced = self._on_host(item, finished.views)
        return {view.plan.name: stored(view, precision, (), grids).at(0) for view in reduced}

    def _on_host(self, item: BatchItem, finished: Sequence[Maps]) -> list[ReducedView]:
        """Finished views of one item, those of patches folded where they are to be stored in blocks.

        Raises:
            RequestError: "internal", when maps are not finite, or not of the method's quantity.
        """
        plan, grids, precision = item.plan, _grids(item), item.plan.options.precision
        shapes = [(grid.rows, grid.cols) for grid in grids] if precision == BLOCKS else None
        try:
            reduced = to_host(plan.views, finished, shapes)
        except ValueError as error:
            names = ", ".join(sorted({view.method for view in plan.views}))
            raise RequestError("internal", "options.precision", f"{error}; made by method {names}") from error
        for view in reduced:
            if not view.finite:
                raise _maps_not_finite(view.plan, self._model.dtype)
        return reduced

    def _layout(self, item: BatchItem, pad: int, positions: list[int]) -> RowLayout:
        return layout_of(item, pad, positions, self._tokenizer.bos_token_id)


def _maps_not_finite(view: ViewPlan, dtype: str) -> RequestError:
    if view.method == DEFAULT_METHOD:
        return _not_finite(view.method, dtype)
    expected = "expected finite ones; change its parameters, or ask for another method"
    return RequestError(
        "internal", f"{view.field}.method", f"got maps of {view.method!r} that are not finite, {expected}"
    )


def _not_finite(what: str, dtype: str) -> RequestError:
    return RequestError(
        "internal", "model", f"got {what} that are not finite in {dtype}, expected finite ones; try bfloat16"
    )


def _grids(item: BatchItem) -> tuple[Grid, ...]:
    """The grids that an item's maps lie on; of several pictures each names its own, because names are unique."""
    grids, first = [], 0
    for grid in item.images.layout.grids:
        places = item.prompt.patches[first : first + len(grid.tokens)]
        first += len(places)
        name = grid.name if len(item.images.facts) == 1 else f"image {grid.image + 1}, {grid.name}"
        grids.append(grid.geometry.grid(runs_of(places), name, grid.image))
    return tuple(grids)


def _utc_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _dtype_name(dtype: torch.dtype, quantization: str) -> str:
    name = str(dtype).removeprefix("torch.")
    return f"{name}, {quantization} weights" if quantization else name


def _device_name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
