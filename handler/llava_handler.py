"""The one class that TorchServe loads: rows in, rows out, errors to statuses, and nothing else.

Flow: a batch of rows (multipart, JSON or gRPC map) -> `GenerateRequest`s -> one `Engine.run` -> records -> bodies; then
`Engine.stream` for each request that wants its tokens as they come. Log line and figures of each item at its end.
Every item succeeds or fails alone: an exception that left `handle` would fail the whole batch, and some answers
(too large, a header with a line break, a stream that never ends) would kill the worker.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llava_server.answer.response import JSON_TYPE, to_response
from llava_server.answer.stream import LINES_TYPE, StreamedToken, line
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_server.front.duty import Duty
from llava_server.front.heartbeat import Heartbeat
from llava_server.front.incoming import Probe
from llava_server.front.item import Item
from llava_server.front.journal import elapsed_ms, note, refusal
from llava_server.front.metrics import KINDS, Figure, of_batch
from llava_wire.errors import RequestError
from llava_wire.record import Record


class LlavaHandler:
    """TorchServe's entry point; holds the engine and no logic."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._duty = Duty(None)
        self._heart = Heartbeat(None, "")
        self._worker = _worker_name(sys.argv)
        self._named_keys = bool(os.environ.get("LLAVA_GAZE_NAMED_KEYS"))

    def initialize(self, context: Any) -> None:
        """Loads the model on the device that TorchServe gave to this worker."""
        _restore_devices()
        # Bodies and parts come as their bytes: what TorchServe parses is neither counted nor inside a deadline.
        os.environ["TS_DECODE_INPUT_REQUEST"] = "false"
        self._duty = Duty.from_environment()
        properties = context.system_properties
        section = dict(context.model_yaml_config["handler"])
        self._heart = Heartbeat.from_environment(str(context.model_name))
        # "weights" inside the archive; an absolute path stays as it is.
        folder = Path(properties["model_dir"]) / section["model_path"]
        begin = time.monotonic()
        device = _device(str(section.get("device", "auto")), properties.get("gpu_id"))
        with self._heart.busy():
            # A model that hangs while it loads is a worker that lives, and a busy one from its first beat.
            self._heart.start()
            self._engine = Engine.load(folder, settings=section, device=device)
        note(event="loaded", model=section.get("name"), device=device, ms=elapsed_ms(begin))

    def handle(self, data: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
        """Answers a batch; one body per row, in order.

        Args:
            data: per item the fields that the front end took apart.
            context: carries each item's headers in and its status, content type and headers out.
        """
        begin = time.monotonic()
        with self._heart.busy(), self._duty.batch(len(data)) as taken:
            items = [
                Item.read(
                    i,
                    str(context.get_request_id(i)),
                    row,
                    _headers(context, i),
                    on_duty=i < taken,
                    named_keys=self._named_keys,
                    arrived_s=begin,
                )
                for i, row in enumerate(data)
            ]
            asked = {item.index: item.asked for item in items if isinstance(item.asked, GenerateRequest)}
            whole = {index: request for index, request in asked.items() if not request.options.stream}
            answers = dict(zip(whole, self._run(list(whole.values())), strict=True))
            bodies = []
            for item in items:
                if isinstance(item.asked, RequestError):
                    bodies.append(self._answer(context, item, item.asked, "json", begin))
                elif isinstance(item.asked, Probe):
                    bodies.append(self._ready(context, item, item.asked))
                elif item.index in answers:
                    bodies.append(self._answer(context, item, answers[item.index], item.asked.format or "json", begin))
                else:
                    bodies.append(self._stream(context, item, item.asked, begin))
        size = sum(not isinstance(item.asked, Probe) for item in items)
        if size:
            note(event="batch", size=size, ms=elapsed_ms(begin))
            loaded = self._loaded.loaded
            places = (loaded.device, *loaded.layer_devices)
            self._emit(context, of_batch(size, elapsed_ms(begin), self._worker, places))
        return bodies

    def _ready(self, context: Any, item: Item, probe: Probe) -> bytes:
        """The answer to a probe; that there is one says all."""
        said: dict[str, Any] = (
            {"ready": True} if probe.by_name else {"status": "ready", "model": self._loaded.settings.name}
        )
        if probe.refused is not None:
            said = probe.refused.to_body()
            context.set_response_status(probe.refused.status, "", item.index)
        _set_type(context, item, JSON_TYPE)
        return json.dumps(said).encode()

    def _run(self, requests: Sequence[GenerateRequest]) -> list[Record | RequestError]:
        """`Engine.run`; should it fail as a whole, each request alone, so that one cannot take others along."""
        if not requests:
            return []
        try:
            return self._loaded.run(requests)
        except Exception as error:
            if len(requests) == 1:
                return [refusal(error)]
        return [result for request in requests for result in self._run([request])]

    def _answer(self, context: Any, item: Item, result: Record | RequestError, fmt: str, begin: float) -> bytes:
        """One body, with its status and content type."""
        try:
            if isinstance(result, RequestError):
                raise result
            # TorchServe kills a worker that answers with more than its own, larger limit.
            body, content_type = to_response(item.in_run_block(result), fmt, self._response_limit)
        except Exception as error:
            result = error if isinstance(error, RequestError) else refusal(error)
            body, content_type = json.dumps(result.to_body(), ensure_ascii=False).encode(), JSON_TYPE
            # The phrase stays empty: text in it could break the response's first line.
            context.set_response_status(result.status, "", item.index)
        _set_type(context, item, content_type)
        self._finished(context, item, result, fmt, len(body), begin)
        return body

    def _stream(self, context: Any, item: Item, request: GenerateRequest, begin: float) -> bytes:
        """Sends a line for each token as it comes; returns the last line, or an ordinary refusal when there was none.

        After the first line the status is sent, so an error that comes later is the last line.
        """
        sent_bytes = 0
        last: Record | RequestError = RequestError("internal", "", "got a stream without an end, expected a record")
        try:
            for part in self._loaded.stream(request):
                if isinstance(part, StreamedToken):
                    context.set_response_content_type(item.index, LINES_TYPE)
                    sent_bytes += _send_part(context, item.index, line(part))
                else:
                    last = part
        except Exception as error:
            last = refusal(error)
        if sent_bytes == 0:
            return self._answer(context, item, last, "json", begin)
        body = line(last if isinstance(last, RequestError) else item.in_run_block(last))
        if len(body) > self._response_limit:
            message = f"got {len(body)} bytes of record, expected {self._response_limit}; name fewer views or steps"
            last = RequestError("does_not_fit", "options", message)
            body = line(last)
        self._finished(context, item, last, "lines", sent_bytes + len(body), begin)
        return body

    def _finished(
        self, context: Any, item: Item, result: Record | RequestError, fmt: str, reply_bytes: int, begin: float
    ) -> None:
        """Log line and figures of one item."""
        seen = item.log_line(result, fmt, with_prompt=self._loaded.settings.log_prompts)
        note(event="request", **seen, bytes=reply_bytes, batch_ms=elapsed_ms(begin))
        self._emit(context, item.figures(result, reply_bytes))

    def _emit(self, context: Any, figures: Iterable[Figure]) -> None:
        """Hands figures to TorchServe's metrics, which are none in a worker without a metrics file."""
        metrics = getattr(context, "metrics", None)
        if metrics is None:
            return
        from ts.metrics.metric_type_enum import MetricTypes

        for figure in figures:
            metric = metrics.get_metric(figure.name, MetricTypes(KINDS[figure.name].type))
            metric.add_or_update(figure.value, [self._loaded.settings.name, *figure.labels])

    @property
    def _loaded(self) -> Engine:
        assert self._engine is not None
        return self._engine

    @property
    def _response_limit(self) -> int:
        return self._loaded.settings.limits.max_response_bytes


def _send_part(context: Any, index: int, part: bytes) -> int:
    """Sends one part of one item's reply ahead of the batch; never for gRPC, where it would wedge the model."""
    from ts.handler_utils.utils import send_intermediate_predict_response

    # The map of ids is that of the whole batch by default, and every other item would need a part too.
    send_intermediate_predict_response({index: part}, {index: context.request_ids[index]}, "part", 200, context)
    return len(part)


def _set_type(context: Any, item: Item, content_type: str) -> None:
    """The content type of a whole answer."""
    context.set_response_content_type(item.index, content_type)
    if item.transport == "grpc":
        # Ends StreamPredictions, which kills the worker without it; harmless for Predictions.
        context.set_response_header(item.index, "ts_stream_next", "false")


def _worker_name(command: Sequence[str]) -> str:
    """The number that TorchServe gave this worker, which its successor gets too; the pid where there is none."""
    numbers = re.findall(r"(?:\.ts\.sock\.|--port )(\d+)\b", " ".join(command))
    return numbers[0] if numbers else str(os.getpid())


def _headers(context: Any, index: int) -> dict[str, str]:
    """An item's headers with names in lower case; form parts share TorchServe's dict, as non-strings."""
    plain: dict[str, str] = {}
    for name, value in context.get_all_request_header(index).items():
        if isinstance(value, str):
            key = str(name).lower()
            plain[key] = f"{plain[key]}, {value}" if key in plain else value
    return plain


def _restore_devices() -> None:
    """Puts the user's CUDA_VISIBLE_DEVICES back; TorchServe's Java side only reads plain numbers in it."""
    original = os.environ.pop("LLAVA_GAZE_CUDA_VISIBLE_DEVICES", None)
    if original is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = original


def _device(wanted: str, gpu_id: int | None) -> str:
    """The device of this worker: TorchServe numbers the GPUs and says None when it gave none."""
    if wanted == "auto":
        return "cpu" if gpu_id is None else f"cuda:{gpu_id}"
    return f"cuda:{gpu_id}" if wanted == "cuda" and gpu_id is not None else wanted
