"""The one class that TorchServe loads: rows in, rows out, errors to statuses, and nothing else.

Flow: a batch of rows (multipart, JSON or gRPC map) -> `GenerateRequest`s -> one `Engine.run` -> records -> bodies.
Every item succeeds or fails alone: an exception that left `handle` would fail the whole batch, and some answers
(too large, a header with a line break, a stream that never ends) would kill the worker.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from llava_server.engine import Engine
from llava_server.request import GenerateRequest
from llava_server.response import JSON_TYPE, NPZ_TYPE, to_response
from llava_wire.errors import RequestError, nearest
from llava_wire.record import Record

FIELDS = ("image", "prompt", "options", "record")
_NPZ_NAMES = (NPZ_TYPE, "application/zip", "application/octet-stream")
_FORM = (
    "POST multipart/form-data (curl -F image=@FILE -F prompt=TEXT) "
    "or a JSON object with base64 in `image` to /predictions/<model>"
)
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
        good = [(index, item) for index, item in enumerate(items) if isinstance(item, GenerateRequest)]
        answers = dict(zip((index for index, _ in good), self._run([item for _, item in good]), strict=True))
        bodies = []
        for index, item in enumerate(items):
            result = answers[index] if isinstance(item, GenerateRequest) else item
            fmt = item.format if isinstance(item, GenerateRequest) else None
            bodies.append(self._answer(context, index, headers[index], result, fmt or "json", begin))
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
                return [_internal(error)]
        return [result for request in requests for result in self._run([request])]

    def _answer(
        self, context: Any, index: int, head: Mapping[str, str], result: Record | RequestError, fmt: str, begin: float
    ) -> bytes:
        """One body, with its status, content type and log line."""
        request_id, transport = str(context.get_request_id(index)), "http" if _is_http(head) else "grpc"
        seen: dict[str, Any] = {"request": request_id, "transport": transport}
        try:
            if isinstance(result, RequestError):
                raise result
            assert self._engine is not None
            run = {**result.run, "request_id": request_id, "transport": transport}
            limit = self._engine.settings.limits.max_response_bytes
            # TorchServe kills a worker that answers with more than its own, larger limit.
            body, content_type = to_response(replace(result, run=run), fmt, limit)
            seen |= {"outcome": "ok", "format": fmt, "tokens": len(result.tokens)}
        except Exception as error:
            refusal = error if isinstance(error, RequestError) else _internal(error)
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


def _read(row: Mapping[str, Any], head: Mapping[str, str]) -> GenerateRequest | RequestError:
    """One row as a checked request, or why not."""
    try:
        if head.get("explain") == "True":
            raise RequestError(
                "not_found",
                "path",
                "got the explanations route, allowed /predictions/<model>; every prediction carries its attention",
            )
        fields = _fields(row, head)
        for name in fields:
            if name not in FIELDS:
                hint = nearest(str(name), FIELDS)
                raise RequestError("invalid", str(name)[:80], f"got an unknown field, allowed {list(FIELDS)}{hint}")
        return _with_format(_request(fields, from_json=fields is not row), head)
    except RequestError as error:
        return error
    except Exception as error:
        return _internal(error)


def _request(fields: Mapping[str, Any], *, from_json: bool) -> GenerateRequest:
    """A question about a picture, or the replay of a record."""
    if "record" in fields:
        if "prompt" in fields:
            raise RequestError("bad_request", "prompt", "got it beside a record, allowed one of them; leave one out")
        picture = _file(fields["image"], "image", from_json) if "image" in fields else None
        record = _file(fields["record"], "record", from_json)
        return GenerateRequest.replay(record, _options(fields.get("options")), picture)
    for name in ("image", "prompt"):
        if name not in fields:
            raise RequestError("bad_request", name, f"got no such field, allowed both image and prompt; {_FORM}")
    return GenerateRequest.build(
        _file(fields["image"], "image", from_json), _prompt(fields["prompt"]), _options(fields.get("options"))
    )


def _fields(row: Mapping[str, Any], head: Mapping[str, str]) -> Mapping[str, Any]:
    """The named fields of a row: the row itself for gRPC and forms, the parsed body for JSON.

    The front end hands a body that it could not take apart over under the one name "body".
    """
    kind = head.get("content-type", "").split(";")[0].strip().lower()[:80]
    if not _is_http(head) or (kind == "multipart/form-data" and row and set(row) != {"body"}):
        return row
    body = row.get("body", b"")
    if kind == "multipart/form-data" or (not kind and not body):
        raise RequestError("bad_request", "body", f"got no readable parts, allowed image and prompt; {_FORM}")
    if kind != "application/json":
        raise RequestError("unsupported_media", "content-type", f"got {kind!r}, allowed a form or JSON; {_FORM}")
    if isinstance(body, bytes | bytearray):
        body = _json(body, "body")
    if not isinstance(body, dict):
        raise RequestError(
            "bad_request", "body", f"got a JSON {type(body).__name__}, allowed an object; send one request per call"
        )
    if "instances" in body or "inputs" in body:
        raise RequestError("bad_request", "body", f"got a KServe request, allowed {list(FIELDS)}; {_FORM}")
    return body


def _file(value: Any, field: str, from_json: bool) -> Any:
    """A file's bytes; base64 only inside JSON, where there is nothing else."""
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if from_json and isinstance(value, str):
        try:
            return base64.b64decode("".join(value.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise RequestError(
                "bad_request",
                field,
                f"got text that is not base64 ({error}), allowed base64 of the file; send it without a data: prefix",
            ) from error
    if from_json:
        raise RequestError("bad_request", field, f"got {type(value).__name__}, allowed base64 text; encode the file")
    raise RequestError(
        "unsupported_media", field, "got a part of a text or JSON type, allowed a file; send it as image/png, say"
    )


def _prompt(value: Any) -> Any:
    if not isinstance(value, bytes | bytearray):
        return value
    try:
        return bytes(value).decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(
            "bad_request",
            "prompt",
            f"got bytes that are not UTF-8 at byte {error.start}, allowed UTF-8 text; encode it",
        ) from error


def _options(value: Any) -> Any:
    return _json(value, "options") if isinstance(value, bytes | bytearray | str) else value


def _json(value: bytes | bytearray | str, field: str) -> Any:
    """Parsed JSON; a name given twice is refused, because which one counts would be a guess."""
    try:
        return json.loads(value, object_pairs_hook=_no_repeats)
    except RecursionError as error:
        raise RequestError(
            "bad_request", field, "got JSON nested too deeply, allowed plain objects; flatten it"
        ) from error
    except UnicodeDecodeError as error:
        raise RequestError("bad_request", field, "got JSON that is not UTF-8, allowed UTF-8; encode it") from error
    except ValueError as error:
        raise RequestError(
            "bad_request", field, f"got malformed JSON ({str(error)[:120]}), allowed a JSON object; mend it"
        ) from error


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name is given twice")
    return content


def _headers(context: Any, index: int) -> dict[str, str]:
    """An item's headers with names in lower case; form parts share TorchServe's dict, as non-strings."""
    plain: dict[str, str] = {}
    for name, value in context.get_all_request_header(index).items():
        if isinstance(value, str):
            key = str(name).lower()
            plain[key] = f"{plain[key]}, {value}" if key in plain else value
    return plain


def _is_http(head: Mapping[str, str]) -> bool:
    """The front end adds headers of its own to every HTTP request, and gRPC items have none at all."""
    return bool(head)


def _with_format(request: GenerateRequest, head: Mapping[str, str]) -> GenerateRequest:
    """The request with its response format settled: the options decide, else Accept, else the transport's default."""
    if request.format is not None:
        return request
    return replace(request, options=replace(request.options, format=_accepted(head) if _is_http(head) else "npz"))


def _accepted(head: Mapping[str, str]) -> Literal["npz", "json"]:
    best: Literal["npz", "json"] = "json"
    weight = 0.0
    for entry in head.get("accept", "").split(","):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        quality = _quality(parameters)
        if quality > weight and name in (*_NPZ_NAMES, JSON_TYPE, "application/*", "*/*"):
            best, weight = "npz" if name in _NPZ_NAMES else "json", quality
    return best


def _quality(parameters: Sequence[str]) -> float:
    try:
        return next((float(part[2:]) for part in parameters if part.startswith("q=")), 1.0)
    except ValueError:
        return 0.0


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
