"""A finished run to a record, and a record to response bytes.

Flow: tokens + attention rows -> reductions -> quantised views -> `Record` -> npz bytes, or JSON with the npz inside.
"""

from __future__ import annotations

import base64
import importlib.metadata
import json
import math
import platform
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from llava_server.answer.queries import mean_steps, out_of_sight, query_table, with_last_step
from llava_server.answer.tokens import AnswerReader, Vocabulary, prompt_texts
from llava_server.ask.methods import quantity_of
from llava_server.ask.request import GenerateRequest
from llava_server.ask.settings import ModelSettings
from llava_server.attend.rows import RowLayout
from llava_server.load.loading import LoadedModel
from llava_server.look.reduce import ReducedView, reduced_views, to_host
from llava_server.look.seen import Seen
from llava_server.read.placing import runs_of
from llava_server.read.plaintext import special_ids
from llava_server.run.batch import BatchItem, BatchRun, Decoded, layout_of
from llava_server.run.generate import Progress
from llava_wire.codes.quantize import written
from llava_wire.errors import RequestError
from llava_wire.grids import Grid
from llava_wire.record import Record
from llava_wire.schema import Facts, MethodFacts, Model, Note, Prompt, Query, Token, ViewFacts
from llava_wire.view import View
from llava_wire.writing import document, encode

NPZ_TYPE = "application/x-npz"
JSON_TYPE = "application/json"


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
            views, about_views = self._views(item, run, index, queries, tokens)
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
            ),
            images=item.images.facts,
            grids=_grids(item),
            model=self._model,
            tokens=tokens,
            queries=queries,
            sampling=_sampling(item, decoded, plain=self._loaded.choosing is None),
            software=self._software,
            checks={name: dict(check) for name, check in self._loaded.checks.items()},
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
        return Record(facts, views, run_block)

    def _views(
        self, item: BatchItem, run: BatchRun, index: int, queries: tuple[Query, ...], tokens: tuple[Token, ...]
    ) -> tuple[dict[str, View], tuple[Note, ...]]:
        """The views of one item, reduced and stored, with what to say of them.

        Raises:
            RequestError: "internal", when maps are not finite or a method failed.
        """
        plan = item.plan
        steps = mean_steps(item, queries, tokens)
        mean_rows = torch.tensor([q.kind == "answer" and q.step in steps for q in queries])
        layout = self._layout(item, run.decoded[index].pad, [query.position for query in queries])
        seen = Seen(
            run.capture, run.keys, index, layout, self._loaded.device,
            loaded=self._loaded, asked=item, answer=run.decoded[index].ids, kept=run.values, special=self._special,
        )  # fmt: skip
        finished = reduced_views(plan.views, seen, mean_rows)
        reduced = to_host(plan.views, finished.views)
        for view in reduced:
            if not np.isfinite(view.maps).all():
                raise _not_finite(view.plan.method, self._model.dtype)
        views = {view.plan.name: _stored(view, plan.options.precision, steps, _grids(item)) for view in reduced}
        return views, (*out_of_sight(finished, layout), *finished.notes)

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
        rows = {}
        for view in to_host(views, finished.views):
            if not np.isfinite(view.maps).all():
                raise _not_finite(view.plan.method, self._model.dtype)
            rows[view.plan.name] = _stored(view, item.plan.options.precision, (), _grids(item)).at(0)
        return rows

    def _layout(self, item: BatchItem, pad: int, positions: list[int]) -> RowLayout:
        return layout_of(item, pad, positions, self._tokenizer.bos_token_id)


def reply_of(record: Record) -> dict[str, Any]:
    """The JSON form of a record: its facts to read, and the file itself."""
    reply: dict[str, Any] = {
        "answer": record.answer,
        "record": document(record),
        "run": record.run,
        "npz_base64": base64.b64encode(encode(record)).decode("ascii"),
    }
    if record.alternatives:
        reply["alternatives"] = [document(other) for other in record.alternatives]
    return reply


def to_response(record: Record, fmt: str, max_bytes: int | None = None) -> tuple[bytes, str]:
    """A record as (body, content type).

    Args:
        record: the finished record.
        fmt: "npz" for the file itself, "json" for record.json plus the same file base64-encoded.
        max_bytes: the response limit, or None.

    Raises:
        RequestError: "does_not_fit" over the limit.
    """
    if fmt == "json":
        body, content_type = json.dumps(reply_of(record), ensure_ascii=False, allow_nan=False).encode(), JSON_TYPE
    else:
        body, content_type = encode(record), NPZ_TYPE
    if max_bytes is not None and len(body) > max_bytes:
        raise RequestError(
            "does_not_fit",
            "options",
            f"got {len(body)} bytes of response, expected {max_bytes}; name fewer views or steps",
        )
    return body, content_type


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


def _stored(view: ReducedView, precision: str, steps: tuple[int, ...], grids: tuple[Grid, ...]) -> View:
    plan = view.plan
    facts = ViewFacts(
        name=plan.name,
        reduction=plan.reduction.name,  # type: ignore[arg-type]
        axes=plan.axes,
        layers=plan.layers,
        heads=plan.heads,
        pairs=plan.pairs,
        head_set=plan.head_set,
        steps=steps if plan.reduction.over_steps else (),
        precision=precision,  # type: ignore[arg-type]
        encoding=written(precision, quantity_of(plan.method)),
        error_bound=0.0,
        method=MethodFacts(plan.method, dict(plan.parameters)),
        quantity=quantity_of(plan.method),
    )
    try:
        return View.of(facts, view.maps, view.shares, grids)
    except ValueError as error:
        raise RequestError("internal", "options.method", f"{error}; method {plan.method!r} made them") from error


def _sampling(item: BatchItem, decoded: Decoded, *, plain: bool) -> dict[str, Any]:
    """How the answer was chosen, in the words of the record; `plain` when the logits alone decided."""
    if item.sampling is not None:
        return dict(item.sampling)
    options = item.plan.options
    facts: dict[str, Any] = {
        "max_new_tokens": options.max_new_tokens,
        "greedy": item.seed is None and options.num_beams == 1,
    }
    if item.seed is not None:
        facts |= {"temperature": options.temperature, "seed": item.seed}
        facts |= {name: value for name in ("top_p", "top_k") if (value := getattr(options, name)) is not None}
    if options.num_beams > 1:
        facts |= {"num_beams": options.num_beams, "length_penalty": options.length_penalty}
        if plain:  # transformers' score of a finished beam
            facts["score"] = sum(decoded.logprobs) / len(decoded.ids) ** options.length_penalty
    if options.num_return_sequences > 1:
        facts |= {"sequence": item.sequence, "sequences": options.num_return_sequences}
    return facts


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
