"""One hostile request from a seed and a number: always the same bytes, so that any shot can be fired again.

Flow: (seed, number) -> way in -> picture, text, options, parts -> `Shot`, the bytes that go over the wire.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from stress.crowding.messages import SERVICE, message
from stress.fuzzing import heavy, pictures, values

Way = Literal[
    "form", "json", "body", "raw", "route", "heavy", "held", "grpc", "grpc stream", "grpc raw", "grpc heavy"
]  # fmt: skip
WAYS: dict[Way, int] = {
    "form": 23, "json": 15, "body": 6, "raw": 7, "route": 8, "heavy": 2, "held": 2, "grpc": 22, "grpc stream": 8,
    "grpc raw": 6, "grpc heavy": 1,
}  # fmt: skip
"""How often each way in is taken, in percent."""
_ROUTES = (
    "/explanations/{model}", "/v1/models/{model}:predict", "/v1/models/{model}:explain", "/v2/models/{model}/infer",
    "/v2/models/{model}/explain", "/v2/health/ready", "/v2/models/{model}", "/v2", "/", "/ping", "/api-description",
    "/predictions", "/predictions/", "/predictions/{model}/", "/predictions/{model}/9.9", "/predictions/nobody",
    "/predictions/../{model}", "/predictions/%2e%2e/{model}", "/predictions/{model}%00", "/predictions/{model}?x=%zz",
    "/invocations", "/wfpredict/x", "/workflows", "/models", "/models/{model}", "/metrics",
    "/predictions/{model}/1.0/x",    "//predictions/{model}", "/predictions/" + "a" * 3000,
)  # fmt: skip
_TYPES = (
    "image/png", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded", "application/xml",
    "application/json; charset=utf-16", "multipart/mixed; boundary=b", "multipart/form-data",
    "multipart/form-data; boundary=", "a/b;" + "c" * 3000, "",
)  # fmt: skip
_PART_TYPES = (*[b"image/png"] * 5, b"text/plain", b"application/json", b"x", b"text/html; charset=x")
_ODD_HEADERS = (
    ("Accept", "\xff\xfe"), ("Accept", "application/x-npz;q=nan"), ("explain", "True"), ("ts_stream_next", "true"),
    ("ts_request_sequence_id", "x"), ("Expect", "100-continue"), ("Content-Encoding", "gzip"), ("X-A", "y" * 3000),
    ("Range", "bytes=0-"), ("describe", "True"), ("Cookie", "a=b"), ("image", "header"), ("body", "header"),
    ("Accept-Encoding", "gzip, deflate, br"), ("X-Request-Id", "../../x"),
)  # fmt: skip
_RAW = (
    b"GET / HTTP/9.9\r\n\r\n", b"\r\n\r\n", b"\0" * 64, b"POST\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /predictions/{model} HTTP/1.1\r\nContent-Length: -1\r\n{auth}\r\n\r\n",
    b"POST /predictions/{model} HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n{auth}\r\n\r\n",
    b"POST /predictions/{model} HTTP/1.1\r\nContent-Length: 10\r\n{auth}\r\n\r\nabc",
    b"POST /predictions/{model} HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 5\r\n{auth}\r\n\r\nabcde",
    b"POST /predictions/{model} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{auth}\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    b"POST /predictions/{model} HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n{auth}\r\n\r\n0\r\n\r\n",
    b"POST /predictions/{model} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{auth}\r\n\r\nffffffffffffffff\r\na",
    b"POST /predictions/{model} HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n{auth}\r\n\r\n",
    b"POST /predictions/{model} HTTP/1.1\r\n" + b"X: a\r\n" * 3000 + b"{auth}\r\n\r\n",
    b"POST /predictions/{model} HTTP/1.1\r\n : x\r\n{auth}\r\n\r\n",
    b"POST /predictions/{model} HTTP/1.1\r\nHost: a\r\nHost: b\r\n folded\r\n{auth}\r\n\r\n",
    b"DELETE /predictions/{model} HTTP/1.0\r\n{auth}\r\n\r\n", b"OPTIONS * HTTP/1.1\r\n{auth}\r\n\r\n",
    b"POST http://elsewhere/predictions/{model} HTTP/1.1\r\n{auth}\r\nContent-Length: 0\r\n\r\n",
    b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n{auth}\r\n\r\n", b"TRACE / HTTP/1.1\r\n{auth}\r\n\r\n",
    b"GET /predictions/{model}\xff\xfe HTTP/1.1\r\n{auth}\r\n\r\n",
)  # fmt: skip


@dataclass(frozen=True)
class Shot:
    """One request.

    Args:
        number: which one of its seed.
        way: how it comes in.
        path: the HTTP path, or the gRPC method.
        body: HTTP body, gRPC message, or for "raw" and "held" all bytes of the connection; `{auth}` and `{model}` stand
            for the key and the model there.
        headers: HTTP headers besides length and key.
        method: of HTTP.
        key: whether the key is sent.
    """

    number: int
    way: Way
    path: str
    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "POST"
    key: bool = True


class ShotMaker:
    """Makes the shots of one seed.

    Args:
        seed: names the sequence.
        model: the served model's name.
        record: a sound record of that model, to be damaged.
    """

    def __init__(self, seed: int, model: str, record: bytes) -> None:
        self._seed, self._model, self._record = seed, model, record

    def shot(self, number: int) -> Shot:
        """The request of this number."""
        rng = random.Random(f"fuzz {self._seed} {number}")
        way = rng.choices(list(WAYS), list(WAYS.values()))[0]
        key = rng.random() > 0.02
        path = f"/predictions/{self._model}"
        headers = tuple(rng.sample(_ODD_HEADERS, rng.choice((0, 0, 0, 1, 2))))
        if way == "form":
            kind, body = _form(rng, self._parts(rng))
            return Shot(number, way, path, body, (("Content-Type", kind), *headers), key=key)
        if way == "json":
            body = self._json(rng)
            return Shot(number, way, path, body, (("Content-Type", "application/json"), *headers), key=key)
        if way == "body":
            kinds = (("Content-Type", rng.choice(_TYPES)),)
            return Shot(number, way, path, _noise(rng), (*kinds, *headers), key=key)
        if way == "raw":
            return Shot(number, way, "", rng.choice(_RAW).replace(b"{model}", self._model.encode()), key=key)
        if way == "route":
            method = rng.choice(("POST", "POST", "GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"))
            route = rng.choice(_ROUTES).replace("{model}", self._model)
            kind, body = _form(rng, self._parts(rng)) if rng.random() < 0.5 else ("application/json", self._json(rng))
            return Shot(number, way, route, body, (("Content-Type", kind), *headers), method, key)
        if way == "heavy":
            kind, body = heavy.posted(rng, self._record)
            return Shot(number, way, path, body, (("Content-Type", kind),), key=key)
        if way == "held":
            return Shot(number, way, "", rng.choice(heavy.HELD).replace(b"{model}", self._model.encode()), key=key)
        method = SERVICE + ("StreamPredictions" if way == "grpc stream" else "Predictions")
        if way == "grpc heavy":
            return Shot(number, way, method, heavy.called(rng, self._model, self._record), key=key)
        if way == "grpc raw":
            return self._grpc_raw(rng, number, method, key)
        model = self._model if rng.random() < 0.97 else rng.choice(("", "nobody", "../x"))
        return Shot(number, way, method, message(model, self._parts(rng)), key=key)

    def _parts(self, rng: random.Random) -> list[tuple[str, bytes]]:
        """The fields of a request, some missing, some twice, some of other names."""
        parts: list[tuple[str, bytes]] = []
        picture = pictures.hostile(rng) if rng.random() < 0.55 else pictures.sound(rng)
        replay = rng.random() < 0.15
        if rng.random() < 0.95:
            parts.append(("image", picture))
        if not replay or rng.random() < 0.1:
            asked = values.text(rng).encode("utf-8") if rng.random() < 0.93 else rng.randbytes(12)
            parts.append(("prompt", asked))
        if replay:
            parts.append(("record", values.record(rng, self._record)))
        # A question without options may be answered at length; nobody needs thousands of those.
        if rng.random() < 0.96:
            parts.append(("options", values.options(rng).encode("utf-8", "surrogatepass")))
        if rng.random() < 0.08:
            parts.append((rng.choice(("Image", "imagee", "body", "", "content-type", "x" * 500, "é\n")), b"1"))
        if parts and rng.random() < 0.05:
            parts.append(rng.choice(parts))
        return parts

    def _json(self, rng: random.Random) -> bytes:
        content: dict[str, Any] = {}
        for name, data in self._parts(rng):
            content[name] = data.decode("utf-8", "replace")
            if name in ("image", "record"):
                content[name] = base64.b64encode(data).decode()
            if name == "options" and rng.random() < 0.7:
                content[name] = {"max_new_tokens": 2, **_object(content[name])}
        for name in list(content):
            if rng.random() < 0.08:
                content[name] = values.value(rng, 2)
            elif name == "image" and rng.random() < 0.1:
                content[name] = rng.choice(("data:image/png;base64,", "!", "=", "\ud800")) + content[name]
        written = json.dumps(content if rng.random() < 0.95 else values.value(rng, 3))
        if rng.random() < 0.1:
            at = rng.randrange(len(written))
            written = written[:at] + rng.choice('{}[],:"\\\0') + written[at + 1 :]
        return written.encode("utf-8", "surrogatepass")

    def _grpc_raw(self, rng: random.Random, number: int, method: str, key: bool) -> Shot:
        """Messages that are no protobuf or of other services, and methods that the server has not."""
        methods = (
            method, SERVICE + "StreamPredictions", SERVICE + "StreamPredictions2", SERVICE + "Ping",
            SERVICE + "Nothing",
            "/inference.GRPCInferenceService/ModelInfer", "/inference.GRPCInferenceService/ServerLive",
            "/org.pytorch.serve.grpc.management.ManagementAPIsService/ListModels",
        )  # fmt: skip
        body = bytearray(message(self._model, self._parts(rng)))
        for _ in range(rng.randint(0, 6)):
            at = rng.randrange(len(body))
            body[at : at + 1] = rng.randbytes(rng.randrange(3))
        return Shot(number, "grpc raw", rng.choice(methods), bytes(body), key=key)


def _form(rng: random.Random, parts: Sequence[tuple[str, bytes]]) -> tuple[str, bytes]:
    """Content type and body of a form, sometimes with part types, names and borders that do not fit."""
    border = rng.choice(("b", "----x", "a" * 70, "b"))
    lines = b""
    for name, data in parts:
        quoted = name.replace("\n", "%0A").encode()
        head = b'Content-Disposition: form-data; name="' + quoted + b'"'
        if name in ("image", "record") and rng.random() < 0.9:
            head += b'; filename="' + rng.choice((b"x.png", b"../../x", b"", b"\xff", b"a" * 300)) + b'"'
            head += b"\r\nContent-Type: " + rng.choice(_PART_TYPES)
        elif rng.random() < 0.05:
            head += b"\r\nContent-Transfer-Encoding: " + rng.choice((b"base64", b"gzip", b"8bit"))
        lines += b"--" + border.encode() + b"\r\n" + head + b"\r\n\r\n" + data + b"\r\n"
    body = lines + b"--" + border.encode() + b"--\r\n"
    kind = f"multipart/form-data; boundary={border}"
    fault = rng.randrange(20)
    if fault == 0:
        body = body[: rng.randrange(len(body))]
    elif fault == 1:
        kind = "multipart/form-data; boundary=other"
    elif fault == 2:
        at = rng.randrange(len(body))
        body = body[:at] + rng.randbytes(2) + body[at:]
    return kind, body


def _noise(rng: random.Random) -> bytes:
    return rng.choice(
        (b"", b"x=1&y=%zz", rng.randbytes(50), pictures.sound(rng), b"{}", b"\0" * 1000, b"--b\r\n\r\n--b--")
    )


def _object(written: str) -> dict[str, Any]:
    try:
        content = json.loads(written)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
