"""The requests of a soak: good ones with the truth about them, bad ones with the error that each must get.

Flow: seed -> scenes, questions and options -> the engine in this process, one request at a time -> `Case`s.
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record, encode
from llava_wire.errors import RequestError
from servekit.paths import MODEL_STORE
from shapes.questions import ask
from shapes.scenes import Orientation, make_scene

LARGEST_DIFFERENCE = 1e-5
"""Between float32 maps of one request alone and in any batch."""

_ORIENTATIONS: tuple[Orientation, ...] = ("landscape", "portrait", "square")
_KINDS = ("describe", "colour-of", "exists-yes", "where", "count", "shape-of", "exists-no", "describe")
_FORMS: tuple[dict[str, Any], ...] = (
    {},
    {"layers": "all", "heads": "all", "reduction": "none"},
    {"heads": "next-object", "rows": "both"},
    {"temperature": 1.3, "seed": 7},
    {"num_beams": 3, "num_return_sequences": 2},
    {"reduction": "all", "top_k": 5, "seed": 11},
    {"steps": [0, 1], "reduction": "heads"},
    {"views": [{"name": "a", "reduction": "heads"}, {"name": "b", "heads": [[2, 7], [1, 4]]}]},
)
_LONG: dict[str, Any] = {"temperature": 100.0, "seed": 4, "max_new_tokens": 160}
"""So hot that the answer rambles on: it holds the worker, and others queue up behind it."""


@dataclass(frozen=True)
class Case:
    """One request and what must come back.

    Args:
        name: what it tests.
        fields: image, prompt or record, without the options.
        options: the request's options.
        truth: the engine's own record, None for a request that must be refused.
        refusal: the error's code and the start of its field.
    """

    name: str
    fields: dict[str, bytes] = field(repr=False)
    options: dict[str, Any]
    truth: Record | None = field(default=None, repr=False)
    refusal: tuple[str, str] = ("", "")

    @property
    def streams(self) -> bool:
        """Whether its answer is written token by token: no replay, no search, no mean over all steps."""
        return (
            "record" not in self.fields and "num_beams" not in self.options and self.options.get("reduction") != "all"
        )


def good_cases(seed: int, count: int) -> list[Case]:
    """Cases with their truth, every form of options in turn; a replay of every eighth, and a long one at the end."""
    engine = Engine.load(MODEL_STORE / "llava-shapes", device="cpu", dtype="float32")
    rng = random.Random(f"soak {seed}")
    cases: list[Case] = []
    for number in range(count):
        options = {"precision": "float32", **_FORMS[number % len(_FORMS)]}
        image, prompt = _question(rng, number)
        cases.append(_asked(engine, f"form {number % len(_FORMS)}", image, prompt, options))
        if number % len(_FORMS) == 0:
            cases.append(_replayed(engine, cases[-1]))
    image, prompt = _question(rng, 0)
    cases.append(_asked(engine, "long", image, prompt, {"precision": "float32", **_LONG}))
    return cases


def bad_cases(good: Sequence[Case]) -> list[Case]:
    """Requests that must be refused, each in its own way."""
    fields = next(case.fields for case in good if "record" not in case.fields)
    image, prompt = fields["image"], fields["prompt"]

    def bad(name: str, code: str, where: str, options: dict[str, Any] | None = None, **parts: bytes) -> Case:
        return Case(name, {"image": image, "prompt": prompt, **parts}, options or {}, refusal=(code, where))

    return [
        bad("no picture", "unsupported_media", "image", image=b"hello, I am text" * 9),
        bad("truncated picture", "invalid", "image", image=image[: len(image) // 2]),
        bad("bomb", "too_large", "image", image=_bomb()),
        bad("empty prompt", "invalid", "prompt", prompt=b"  \n"),
        bad("long prompt", "too_large", "prompt", prompt=b"x" * 4001),
        bad("not UTF-8", "bad_request", "prompt", prompt=b"\xff\xfe"),
        bad("unknown option", "invalid", "options.layer", {"layer": [1]}),
        bad("layer out of range", "invalid", "options.layers", {"layers": [0, 99]}),
        bad("too many tokens", "invalid", "options.max_new_tokens", {"max_new_tokens": 257}),
        bad("does not fit", "does_not_fit", "options", _too_much()),
        bad("unknown field", "invalid", "imagee", imagee=b"x"),
        bad("record and prompt", "bad_request", "prompt", record=b"x"),
        Case("damaged record", {"record": b"PK\x03\x04" + bytes(200)}, {}, refusal=("invalid", "record")),
        Case("nothing", {}, {}, refusal=("bad_request", "image")),
    ]


def difference(record: Record, truth: Record) -> str:
    """What is wrong with an answer, in one line; empty when it is right."""
    if len(record.alternatives) != len(truth.alternatives):
        return f"got {len(record.alternatives)} alternatives, expected {len(truth.alternatives)}"
    for got, true in zip((record, *record.alternatives), (truth, *truth.alternatives), strict=True):
        found = _one_difference(got, true)
        if found:
            return found
    return ""


def shortened_difference(record: Record, truth: Record) -> str:
    """As `difference`, for an answer that a deadline may have cut short: its tokens must start the true ones."""
    ids, true = [token.id for token in record.tokens], [token.id for token in truth.tokens]
    if record.facts.finish_reason != "deadline":
        return difference(record, truth)
    return "" if ids == true[: len(ids)] else f"got tokens {ids}, expected a beginning of {true}"


def _one_difference(record: Record, truth: Record) -> str:
    ids, true = [token.id for token in record.tokens], [token.id for token in truth.tokens]
    if ids != true:
        return f"got tokens {ids}, expected {true}"
    if list(record.views) != list(truth.views):
        return f"got views {list(record.views)}, expected {list(truth.views)}"
    for name, view in truth.views.items():
        maps, wanted = record.views[name].maps_float(), view.maps_float()
        if maps.shape != wanted.shape:
            return f"got maps {maps.shape} in {name}, expected {wanted.shape}"
        largest = float(np.abs(maps - wanted).max())
        if not largest <= LARGEST_DIFFERENCE:
            return f"got maps of {name} off by {largest:.2g}, expected {LARGEST_DIFFERENCE:g}"
    return ""


def _question(rng: random.Random, number: int) -> tuple[bytes, str]:
    """A scene as a PNG file and a question about it."""
    question = None
    while question is None:
        scene = make_scene(rng, _ORIENTATIONS[number % len(_ORIENTATIONS)])
        question = ask(rng, scene.layout, _KINDS[(number // len(_FORMS) + number) % len(_KINDS)])
    buffer = io.BytesIO()
    scene.image.save(buffer, "PNG")
    return buffer.getvalue(), question.text


def _asked(engine: Engine, name: str, image: bytes, prompt: str, options: dict[str, Any]) -> Case:
    truth = _truth(engine, GenerateRequest.build(image, prompt, options))
    return Case(name, {"image": image, "prompt": prompt.encode()}, options, truth)


def _replayed(engine: Engine, asked: Case) -> Case:
    assert asked.truth is not None
    options = {"precision": "float32", "layers": "all", "heads": "all", "reduction": "heads"}
    fields = {"image": asked.fields["image"], "record": encode(asked.truth)}
    truth = _truth(engine, GenerateRequest.replay(asked.truth, options, fields["image"]))
    return Case("replay", fields, options, truth)


def _truth(engine: Engine, request: GenerateRequest) -> Record:
    [result] = engine.run([request])
    if isinstance(result, RequestError):
        raise result
    return result


def _too_much() -> dict[str, Any]:
    views = [{"name": f"view {n}", "reduction": "none"} for n in range(32)]
    return {"views": views, "precision": "float32", "max_new_tokens": 256}


def _bomb() -> bytes:
    """49 million pixels in a few kB."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("1", (7000, 7000)).save(buffer, "PNG")
    return buffer.getvalue()
