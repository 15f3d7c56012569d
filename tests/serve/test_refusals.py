"""Bad requests, alone and in a batch with good ones: the design's error for them, unchanged answers for the others."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llava_wire import RequestError
from support.asking import MODEL, Answer, Asker, together
from support.pictures import encoded, scene, scene_bytes

pytestmark = pytest.mark.serve
PROMPT = "What color is the square?"
GOOD = scene_bytes(256, 192, seed=5)


@dataclass(frozen=True)
class Bad:
    """A refused request: fields for HTTP and gRPC, and the error that both give."""

    name: str
    status: int
    code: str
    field: str
    says: str = ""
    image: bytes | None = GOOD
    prompt: str | None = PROMPT
    options: Any = None


def _huge() -> bytes:
    """A picture of 49 million pixels in a file of a few kB."""
    buffer = io.BytesIO()
    Image.new("1", (7000, 7000)).save(buffer, "PNG")
    return buffer.getvalue()


EVERYTHING = {
    "views": [{"name": f"view {n}", "reduction": "none"} for n in range(32)],
    "precision": "float32",
    "max_new_tokens": 256,
}
CASES = [
    Bad("no image", 400, "bad_request", "image", image=None),
    Bad("no prompt", 400, "bad_request", "prompt", prompt=None),
    Bad("empty image", 400, "bad_request", "image", image=b""),
    Bad("not an image", 415, "unsupported_media", "image", image=b"hello, I am text " * 20),
    Bad("truncated image", 422, "invalid", "image", image=encoded(scene(256, 192, 1))[:900]),
    Bad("too many pixels", 413, "too_large", "image", "40000000", image=_huge()),
    Bad("too many bytes", 413, "too_large", "image", "10485760", image=GOOD + bytes(11_000_000)),
    Bad("empty prompt", 422, "invalid", "prompt", prompt="  \n"),
    Bad("long prompt", 413, "too_large", "prompt", "4000", prompt="x" * 4001),
    Bad("bad JSON", 400, "bad_request", "options", "malformed JSON", options='{"layers": [1,}'),
    Bad("option given twice", 400, "bad_request", "options", "twice", options='{"seed": 1, "seed": 2}'),
    Bad("options a list", 422, "invalid", "options", options="[1]"),
    Bad("unknown option", 422, "invalid", "options.layer", "did you mean 'layers'", options={"layer": [1]}),
    Bad("wrong type", 422, "invalid", "options.max_new_tokens", options={"max_new_tokens": "many"}),
    Bad("boolean for a number", 422, "invalid", "options.max_new_tokens", options={"max_new_tokens": True}),
    Bad("layer out of range", 422, "invalid", "options.layers[1]", options={"layers": [0, 99]}),
    Bad("head out of range", 422, "invalid", "options.heads[0]", options={"heads": [99]}),
    Bad("unknown head set", 422, "invalid", "options.heads", "next-object", options={"heads": "next-objekt"}),
    Bad("too many tokens", 422, "invalid", "options.max_new_tokens", "256", options={"max_new_tokens": 257}),
    Bad("raw without image token", 422, "invalid", "prompt", options={"template": "raw"}),
    Bad("cannot fit", 507, "does_not_fit", "options", "layers_heads", options=EVERYTHING),
]


def _http(asker: Asker, bad: Bad) -> Answer:
    return asker.form(bad.image, bad.prompt, bad.options)


def _grpc(asker: Asker, bad: Bad) -> Answer:
    return asker.grpc(bad.image, bad.prompt, bad.options)


def _check(answer: Answer, bad: Bad) -> None:
    assert answer.content_type == "application/json"
    error = answer.error
    assert set(error) == {"code", "status", "field", "message"}
    assert (answer.status, error["code"], error["status"], error["field"]) == (
        bad.status,
        bad.code,
        bad.status,
        bad.field,
    ), error
    assert bad.says in error["message"]
    assert "got " in error["message"]
    assert "expected " in error["message"]


@pytest.mark.parametrize("send", [_http, _grpc], ids=["http", "grpc"])
@pytest.mark.parametrize("bad", CASES, ids=lambda bad: bad.name.replace(" ", "-"))
def test_alone(asker: Asker, bad: Bad, send: Callable[[Asker, Bad], Answer]) -> None:
    _check(send(asker, bad), bad)


def test_in_one_batch_with_good_ones(asker: Asker) -> None:
    """While a long request holds the worker the others queue up, so that TorchServe hands them over together."""
    good = [("Describe the image from left to right.", {"precision": "float32"}), (PROMPT, None), ("How many?", None)]
    alone = [asker.form(GOOD, prompt, options).record() for prompt, options in good]
    small = [bad for bad in CASES if bad.image is None or len(bad.image) < 1_000_000]
    for start in range(0, len(small), 5):
        chosen = small[start : start + 5]
        calls: list[Callable[[], Answer]] = [
            lambda: asker.form(GOOD, "Hello?", {"max_new_tokens": 64, "seed": 3, "temperature": 5.0})
        ]
        for place, (prompt, options) in enumerate(good):
            send = asker.grpc if place == 1 else asker.form
            calls.append(lambda send=send, prompt=prompt, options=options: send(GOOD, prompt, options))
        for place, bad in enumerate(chosen):
            calls.append(lambda send=_grpc if place % 2 else _http, bad=bad: send(asker, bad))
        answers = together(calls)
        for record, answer in zip(alone, answers[1:4], strict=True):
            batched = answer.record()
            assert [token.id for token in batched.tokens] == [token.id for token in record.tokens]
            for name, view in record.views.items():
                largest = abs(view.maps_float() - batched.views[name].maps_float()).max()
                assert largest <= 1e-5 + 2 * view.facts.error_bound
        for bad, answer in zip(chosen, answers[4:], strict=True):
            _check(answer, bad)
    sizes = [
        json.loads(line)["size"]
        for line in (Path(asker.state.logs) / "requests.jsonl").read_text(encoding="utf-8").splitlines()
        if '"event": "batch"' in line
    ]
    assert max(sizes) > 2


def test_bodies_of_the_wrong_kind(asker: Asker) -> None:
    text = json.dumps({"image": base64.b64encode(GOOD).decode(), "prompt": PROMPT})
    kinds: list[tuple[dict[str, Any], int, str, str]] = [
        ({"content": GOOD, "headers": {"Content-Type": "image/png"}}, 415, "unsupported_media", "content-type"),
        ({"content": text, "headers": {"Content-Type": "text/plain"}}, 415, "unsupported_media", "content-type"),
        ({"data": {"image": "x", "prompt": "y"}}, 415, "unsupported_media", "content-type"),
        ({"content": "{bad", "headers": {"Content-Type": "application/json"}}, 400, "bad_request", "body"),
        ({"content": "[" * 100_000, "headers": {"Content-Type": "application/json"}}, 400, "bad_request", "body"),
        ({"json": [1, 2]}, 400, "bad_request", "body"),
        ({"json": "text"}, 400, "bad_request", "body"),
        ({"json": None}, 400, "bad_request", "body"),
        ({"json": {"image": "!!!", "prompt": PROMPT}}, 400, "bad_request", "image"),
        ({"json": {"image": 7, "prompt": PROMPT}}, 400, "bad_request", "image"),
        ({"json": {"image": base64.b64encode(GOOD).decode(), "prompt": 7}}, 400, "bad_request", "prompt"),
        ({"json": {"image": "", "prompt": PROMPT, "imagee": 1}}, 422, "invalid", "imagee"),
        ({"json": {"instances": [{"data": 1}]}}, 400, "bad_request", "body"),
        ({"content": b""}, 400, "bad_request", "body"),
        (
            {"content": b"xyz", "headers": {"Content-Type": "multipart/form-data; boundary=abc"}},
            400,
            "bad_request",
            "body",
        ),
        ({"content": b"xyz", "headers": {"Content-Type": "multipart/form-data"}}, 400, "bad_request", "body"),
        ({"files": {"Image": ("x.png", GOOD, "image/png"), "prompt": (None, "x")}}, 422, "invalid", "Image"),
        (
            {"files": {"image": ("x.png", GOOD, "image/png"), "prompt": (None, b"\xff\xfe")}},
            400,
            "bad_request",
            "prompt",
        ),
        (
            {"files": {"image": ("x.txt", b"hello", "text/plain"), "prompt": (None, "x")}},
            415,
            "unsupported_media",
            "image",
        ),
    ]
    for body, status, code, field in kinds:
        answer = asker.post(**body)
        assert (answer.status, answer.error["code"], answer.error["field"]) == (status, code, field), body


def test_grpc_maps_of_the_wrong_kind(asker: Asker) -> None:
    cases: list[tuple[dict[str, bytes], str, str]] = [
        ({}, "bad_request", "image"),
        ({"body": GOOD}, "invalid", "body"),
        ({"data": GOOD, "prompt": b"x"}, "invalid", "data"),
        ({"image": GOOD, "prompt": b"\xff"}, "bad_request", "prompt"),
        ({"image": GOOD, "prompt": b"x", "options": b"\xff"}, "bad_request", "options"),
        ({"image": GOOD, "prompt": b"x", "options": b""}, "bad_request", "options"),
    ]
    for fields, code, field in cases:
        answer = asker.grpc_map(fields)
        assert (answer.error["code"], answer.error["field"]) == (code, field), fields


def test_more_than_the_front_end_takes(asker: Asker) -> None:
    """Its own limit is above the handler's."""
    answer = asker.post(content=bytes(22_000_000), headers={"Content-Type": "image/png"})
    assert answer.status == 413
    error = RequestError.from_body(json.loads(answer.body))
    assert error is not None
    assert (error.code, error.field) == ("too_large", "body")
    assert "20971520" in error.message


def test_unknown_models_and_versions(asker: Asker) -> None:
    for path in ("/predictions/nobody", f"/predictions/{MODEL}/9.9"):
        assert asker.post(path, files={"prompt": (None, "x")}).status == 404
