"""The one class that TorchServe loads: rows in, rows out, errors to statuses, and nothing else.

Flow: a batch of rows (multipart, JSON or gRPC map) -> `GenerateRequest`s -> one `Engine.run` -> records -> bodies; then
`Engine.stream` for each request that wants its tokens as they come.
Every item succeeds or fails alone: an exception that left `handle` would fail the whole batch, and some answers
(too large, a header with a line break, a stream that never ends) would kill the worker.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llava_server.engine import Engine
from llava_server.incoming import is_http, read_request
from llava_server.memory import is_out_of_memory
from llava_server.request import GenerateRequest
from llava_server.response import JSON_TYPE, to_response
from llava_server.stream import LINES_TYPE, StreamedToken, line
from llava_wire.errors import RequestError
from llava_wire.record import Record

_log = logging.getLogger("llava_gaze")


class LlavaHandler:
    """TorchServe's entry point; holds the engine and no logic."""

    def __init__(self) -> None:
        self._engine: Engine | None = None

    def initialize(self, context: Any) -> None:
        """Loads the model on the device that TorchServe gave to this worker."""
        _restore_devices()
        properties = context.system_properties
        section = dict(context.model_yaml_config["handler"])
        # "weights" inside the archive; an absolute path stays as it is.
        folder = Path(properties["model_dir"]) / section["model_path"]
        section["model_path"] = str(folder)
        begin = time.monotonic()
        device = _device(str(section.get("device", "auto")), properties.get("gpu_id"))
        self._engine = Engine.load(folder, settings=section, device=device)
        _line(event="loaded", model=section.get("name"), device=device, ms=_ms(begin))

    def handle(self, data: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
        """Answers a batch; one body per row, in order.

        Args:
            data: per item the fields that the front end took apart.
            context: carries each item's headers in and its status, content type and headers out.
        """
        begin = time.monotonic()
        headers = [_headers(context, index) for index in range(len(data))]
        items = [_read(row, head) for row, head in zip(data, headers, strict=True)]
        whole = {
            i: item for i, item in enumerate(items) if not isinstance(item, RequestError) and not item.options.stream
        }
        answers = dict(zip(whole, self._run(list(whole.values())), strict=True))
        bodies = []
        for index, (item, head) in enumerate(zip(items, headers, strict=True)):
            if isinstance(item, RequestError):
                bodies.append(self._answer(context, index, head, item, "json", begin))
            elif index in answers:
                bodies.append(self._answer(context, index, head, answers[index], item.format or "json", begin))
            else:
                bodies.append(self._stream(context, index, head, item, begin))
        _line(event="batch", size=len(bodies), ms=_ms(begin))
        return bodies

    def _run(self, requests: Sequence[GenerateRequest]) -> list[Record | RequestError]:
        """`Engine.run`; should it fail as a whole, each request alone, so that one cannot take others along."""
        if not requests:
            return []
        assert self._engine is not None
        try:
            return self._engine.run(requests)
        except Exception as error:
            if len(requests) == 1:
                return [_refusal(error)]
        return [result for request in requests for result in self._run([request])]

    def _answer(
        self, context: Any, index: int, head: Mapping[str, str], result: Record | RequestError, fmt: str, begin: float
    ) -> bytes:
        """One body, with its status, content type and log line."""
        seen, transport = _request(context, index, head)
        try:
            if isinstance(result, RequestError):
                raise result
            # TorchServe kills a worker that answers with more than its own, larger limit.
            body, content_type = to_response(_with_request(result, seen), fmt, self._response_limit)
            seen |= {"outcome": "ok", "format": fmt, "tokens": len(result.tokens)}
        except Exception as error:
            refusal = error if isinstance(error, RequestError) else _refusal(error)
            body, content_type = json.dumps(refusal.to_body(), ensure_ascii=False).encode(), JSON_TYPE
            # The phrase stays empty: text in it could break the response's first line.
            context.set_response_status(refusal.status, "", index)
            seen |= {"outcome": refusal.code, "field": refusal.field}
        context.set_response_content_type(index, content_type)
        if transport == "grpc":
            # Ends StreamPredictions, which kills the worker without it; harmless for Predictions.
            context.set_response_header(index, "ts_stream_next", "false")
        _line(event="request", **seen, bytes=len(body), batch_ms=_ms(begin))
        return body

    def _stream(
        self, context: Any, index: int, head: Mapping[str, str], request: GenerateRequest, begin: float
    ) -> bytes:
        """Sends a line for each token as it comes; returns the last line, or an ordinary refusal when there was none.

        After the first line the status is sent, so an error that comes later is the last line.
        """
        assert self._engine is not None
        sent, sent_bytes = 0, 0
        last: Record | RequestError = RequestError("internal", "", "got a stream without an end, allowed a record")
        try:
            for part in self._engine.stream(request):
                if isinstance(part, StreamedToken):
                    context.set_response_content_type(index, LINES_TYPE)
                    sent_bytes += _send_part(context, index, line(part))
                    sent += 1
                else:
                    last = part
        except Exception as error:
            last = _refusal(error)
        if sent == 0:
            return self._answer(context, index, head, last, "json", begin)
        seen, _ = _request(context, index, head)
        body = line(last if isinstance(last, RequestError) else _with_request(last, seen))
        if len(body) > self._response_limit:
            message = f"got {len(body)} bytes of record, allowed {self._response_limit}; name fewer views or steps"
            last = RequestError("does_not_fit", "options", message)
            body = line(last)
        outcome = {"outcome": last.code, "field": last.field} if isinstance(last, RequestError) else {"outcome": "ok"}
        seen |= {**outcome, "format": "lines", "tokens": sent}
        _line(event="request", **seen, bytes=sent_bytes + len(body), batch_ms=_ms(begin))
        return body

    @property
    def _response_limit(self) -> int:
        assert self._engine is not None
        return self._engine.settings.limits.max_response_bytes


def _send_part(context: Any, index: int, part: bytes) -> int:
    """Sends one part of one item's reply ahead of the batch; never for gRPC, where it would wedge the model."""
    from ts.handler_utils.utils import send_intermediate_predict_response

    # The map of ids is that of the whole batch by default, and every other item would need a part too.
    send_intermediate_predict_response({index: part}, {index: context.request_ids[index]}, "part", 200, context)
    return len(part)


def _request(context: Any, index: int, head: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """What a request's log line begins with, and its transport."""
    transport = "http" if is_http(head) else "grpc"
    return {"request": str(context.get_request_id(index)), "transport": transport}, transport


def _with_request(record: Record, seen: Mapping[str, Any]) -> Record:
    """The record with the request's id and transport in its run block."""
    return replace(record, run={**record.run, "request_id": seen["request"], "transport": seen["transport"]})


def _read(row: Mapping[str, Any], head: Mapping[str, str]) -> GenerateRequest | RequestError:
    """One row as a checked request, or why not."""
    try:
        return read_request(row, head)
    except RequestError as error:
        return error
    except Exception as error:
        return _refusal(error)


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


def _refusal(error: Exception) -> RequestError:
    """What a client may know of an error outside the engine's own refusals."""
    if not is_out_of_memory(error):
        return _internal(error)
    _line(event="out_of_memory", error=type(error).__name__)
    message = "got more than the server has memory for, allowed less; send a smaller picture, name fewer views or steps"
    return RequestError("does_not_fit", "", message)


def _internal(error: Exception) -> RequestError:
    """An error for the client that gives nothing away; the log gets the place, not the message (it may quote input)."""
    _line(event="internal", error=type(error).__name__, at="".join(traceback.format_tb(error.__traceback__)))
    if "CUDA error" in str(error):
        # After such an error every later call on this GPU fails: the worker leaves, TorchServe starts a fresh one.
        threading.Timer(1.0, os._exit, (1,)).start()
    return RequestError("internal", "", "got an error inside the server, allowed none; see its log, and report it")


def _line(**seen: Any) -> None:
    """One line of JSON in the worker's log; never the prompt or the picture."""
    _log.info(json.dumps(seen))


def _ms(begin: float) -> float:
    return round((time.monotonic() - begin) * 1000, 1)
