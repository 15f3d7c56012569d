"""What a front end received, as a checked request: the named fields of a form, a JSON body or a gRPC map.

Flow: one row and its headers -> fields -> picture or record bytes, prompt text, options JSON -> `GenerateRequest`, or
the `RequestError` that says why not. Nothing here knows the model server but the shape of its rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from llava_server.answer.response import JSON_TYPE, NPZ_TYPE
from llava_server.ask.checking import invalid
from llava_server.ask.options import KNOWN
from llava_server.ask.request import GenerateRequest
from llava_server.front.files import FURTHER_IMAGES, IMAGES, file_in, gathered, images_in
from llava_wire.errors import RequestError, nearest
from llava_wire.system.inner import FORM_HEADER, FORM_TYPE, PROBE_HEADER
from llava_wire.system.multipart import MAX_PARTS, FormError, is_multipart, parts
from llava_wire.untrusted.question import json_values

PROBE = "ready"
"""The one field of a request that asks nothing but whether the model answers."""
FIELDS = ("image", "prompt", "options", "record")
MAX_OPTIONS_BYTES = 4 << 20
"""The longest options as text; the 32 views of 4,096 pairs that are allowed take less."""
MAX_JSON_VALUES = 1 << 19
"""The most that options or a JSON body may hold, as `json_values` counts it."""
_MEANT = {"question": "prompt", "text": "prompt", "file": "image", "picture": "image", "photo": "image"}
_NPZ_NAMES = (NPZ_TYPE, "application/zip", "application/octet-stream")
_FORM = (
    "POST multipart/form-data (curl -F image=@FILE -F prompt=TEXT) "
    "or a JSON object with base64 in `image` to /predictions/<model>"
)


@dataclass(frozen=True)
class Probe:
    """A question whether the model answers: for health checks, and no request in anybody's figures.

    Args:
        by_name: whether it was asked by `PROBE_HEADER` and not by the one field `PROBE`; the replies differ.
        refused: why the worker is not ready, or None when it is.
    """

    by_name: bool = False
    refused: RequestError | None = None


def read_request(
    row: Mapping[str, Any], head: Mapping[str, str], *, arrived_s: float | None = None
) -> GenerateRequest | Probe:
    """One row as a checked request, its response format settled; or as a probe.

    Args:
        row: the fields that the front end took apart.
        head: its headers with names in lower case; none at all for gRPC.
        arrived_s: `time.monotonic()` when it came, from which its deadline counts; None for now.

    Raises:
        RequestError: naming the field at fault.
    """
    if is_probe(row, head):
        return Probe(by_name=True)
    if head.get("explain") == "True":
        raise RequestError(
            "not_found",
            "path",
            "got the explanations route, expected /predictions/<model>; every prediction carries its attention",
        )
    fields, from_json = _fields(row, head)
    fields = gathered(fields, from_json=from_json)
    if set(fields) == {PROBE}:
        return Probe()
    for name in fields:
        if name not in FIELDS:
            hint = _meant(str(name))
            raise RequestError("invalid", str(name)[:80], f"got an unknown field, expected {list(FIELDS)}{hint}")
    request = _with_format(_request(fields, from_json=from_json, arrived_s=arrived_s), head)
    if request.options.stream and not is_http(head):
        # The front end has no way to say which of its gRPC calls this is, and one of them dies of a second part.
        raise invalid("options.stream", True, "false over gRPC, where answers come whole; ask over HTTP")
    return request


def _meant(name: str) -> str:
    """What an unknown field was probably meant to be."""
    if name in FURTHER_IMAGES or name == IMAGES:
        return "; several images are image, image_2 and so on in a form and over gRPC, and a list `images` in JSON"
    if name in KNOWN:
        return f"; it is an option: send it inside `options`, as JSON such as {{{json.dumps(name)}: ...}}"
    meant = _MEANT.get(name.lower())
    return f"; did you mean {meant!r}?" if meant else nearest(name, FIELDS)


def is_probe(row: Mapping[str, Any], head: Mapping[str, str]) -> bool:
    """Whether a row asks by `PROBE_HEADER` whether the model answers, whatever else it holds."""
    if is_http(head):
        return head.get(PROBE_HEADER, "").strip() == "1"
    return bool(row.get(PROBE_HEADER) == b"1")


def _request(fields: Mapping[str, Any], *, from_json: bool, arrived_s: float | None) -> GenerateRequest:
    """A question about a picture, or the replay of a record; what costs least is looked at first."""
    options = _options(fields, from_json)
    if "record" in fields:
        if "prompt" in fields:
            raise RequestError("bad_request", "prompt", "got it beside a record, expected one of them; leave one out")
        picture = images_in(fields["image"], from_json=from_json) if "image" in fields else None
        record = file_in(fields["record"], "record", from_json=from_json)
        return GenerateRequest.replay(record, options, picture, arrived_s=arrived_s)
    for name in ("image", "prompt"):
        if name not in fields:
            raise RequestError("bad_request", name, f"got no such field, expected both image and prompt; {_FORM}")
    picture, prompt = images_in(fields["image"], from_json=from_json), _prompt(fields["prompt"])
    return GenerateRequest.build(picture, prompt, options, arrived_s=arrived_s)


def _fields(row: Mapping[str, Any], head: Mapping[str, str]) -> tuple[Mapping[str, Any], bool]:
    """The named fields of a row, and whether they are JSON's: a form's parts, a JSON body's members, gRPC's row itself.

    The front end hands a body that it could not take apart over under the one name "body".
    """
    content_type = head.get("content-type", "")
    if is_http(head) and content_type == FORM_TYPE:
        content_type = head.get(FORM_HEADER, "")
        if is_multipart(content_type):
            return _form(content_type, bytes(row.get("body", b""))), False
    kind = content_type.split(";")[0].strip().lower()[:80]
    if not is_http(head):
        return row, False
    if kind == "multipart/form-data" and row and set(row) != {"body"}:
        return row, False
    body = row.get("body", b"")
    if kind == "multipart/form-data" or (not kind and not body):
        raise RequestError("bad_request", "body", f"got no readable parts, expected image and prompt; {_FORM}")
    if kind != "application/json":
        raise RequestError("unsupported_media", "content-type", f"got {kind!r}, expected a form or JSON; {_FORM}")
    if isinstance(body, bytes | bytearray):
        body = _json(body, "body")
    if not isinstance(body, dict):
        raise RequestError(
            "bad_request", "body", f"got a JSON {type(body).__name__}, expected an object; send one request per call"
        )
    if "instances" in body or "inputs" in body:
        raise RequestError("bad_request", "body", f"got a KServe request, expected {list(FIELDS)}; {_FORM}")
    return body, True


def _form(content_type: str, body: bytes) -> dict[str, Any]:
    """The fields of a form that the front passed on as bytes; only pictures may be repeated."""
    fields: dict[str, Any] = {}
    pictures: list[bytes] = []
    try:
        for part in parts(content_type, body):
            data = body[part.start : part.end]
            if part.name == "image":
                pictures.append(data)
            elif part.name in fields:
                raise FormError(f"two parts of the name {part.name[:80]!r}")
            fields[part.name] = data
    except FormError as error:
        reason = str(error) or f"more than {MAX_PARTS} parts"
        raise RequestError(
            "bad_request", "body", f"got a form with {reason}, expected image and prompt; {_FORM}"
        ) from None
    if not fields:
        raise RequestError("bad_request", "body", f"got no readable parts, expected image and prompt; {_FORM}")
    return {**fields, "image": pictures} if len(pictures) > 1 else fields


def _prompt(value: Any) -> Any:
    if not isinstance(value, bytes | bytearray):
        return value
    try:
        return bytes(value).decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(
            "bad_request",
            "prompt",
            f"got bytes that are not UTF-8 at byte {error.start}, expected UTF-8 text; encode it",
        ) from error


def _options(fields: Mapping[str, Any], from_json: bool) -> Any:
    """The options object; text of it is parsed, but for a JSON body's, where it is an object itself."""
    if "options" not in fields:
        return None
    value = fields["options"]
    if isinstance(value, bytes | bytearray) or (isinstance(value, str) and not from_json):
        if len(value) > MAX_OPTIONS_BYTES:
            raise RequestError(
                "too_large", "options", f"got {len(value)} bytes, expected {MAX_OPTIONS_BYTES}; ask for less"
            )
        value = _json(value, "options")
    if not isinstance(value, dict):
        raise invalid("options", value, "a JSON object; see docs/http-api.md")
    return value


def _json(value: bytes | bytearray | str, field: str) -> Any:
    """Parsed JSON, counted before anything is made of it.

    A name given twice is refused, because which one counts would be a guess.
    """
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    if (count := json_values(data)) > MAX_JSON_VALUES:
        raise RequestError(
            "too_large", field, f"got JSON of up to {count} values, expected {MAX_JSON_VALUES}; ask for less"
        )
    try:
        return json.loads(value, object_pairs_hook=_no_repeats)
    except RecursionError as error:
        raise RequestError(
            "bad_request", field, "got JSON nested too deeply, expected plain objects; flatten it"
        ) from error
    except UnicodeDecodeError as error:
        raise RequestError("bad_request", field, "got JSON that is not UTF-8, expected UTF-8; encode it") from error
    except ValueError as error:
        raise RequestError(
            "bad_request", field, f"got malformed JSON ({str(error)[:120]}), expected a JSON object; mend it"
        ) from error


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name is given twice")
    return content


def is_http(head: Mapping[str, str]) -> bool:
    """The front end adds headers of its own to every HTTP request, and gRPC items have none at all."""
    return bool(head)


def _with_format(request: GenerateRequest, head: Mapping[str, str]) -> GenerateRequest:
    """The request with its response format settled: the options decide, else Accept, else the transport's default."""
    if request.format is not None:
        return request
    return replace(request, options=replace(request.options, format=_accepted(head) if is_http(head) else "npz"))


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
