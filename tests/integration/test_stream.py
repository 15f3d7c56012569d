"""A streamed answer: each token's maps as it is produced, equal to the record that comes last."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace

import numpy as np
import pytest

from llava_server.answer.stream import StreamedToken, line
from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_wire import Record, RequestError, decode, encode
from llava_wire.codes.quantize import dequantise
from llava_wire.plain import from_plain
from llava_wire.schema import Token

PROMPT = "Describe the image."
VIEWS = [
    {"name": "mean"},
    {"name": "layers", "layers": [0, 2], "reduction": "heads"},
    {"name": "pairs", "heads": [[2, 4], [1, 1]], "reduction": "none"},
]


def stream(engine: Engine, picture: bytes, options: dict) -> tuple[list[StreamedToken], Record | RequestError]:
    *parts, last = engine.stream(GenerateRequest.build(picture, PROMPT, options))
    return parts, last


@pytest.mark.parametrize("precision", ["uint8", "float16", "float32", "blocks"])
def test_every_token_comes_with_the_maps_that_the_record_holds(precision, engine, pictures):
    options = {"views": VIEWS, "precision": precision, "max_new_tokens": 20, "rows": "both"}
    parts, record = stream(engine, pictures[0], options)
    assert [part.step for part in parts] == list(range(len(record.tokens)))
    # What only the finished answer can be tested for comes with the record alone.
    assert tuple(part.token for part in parts) == tuple(replace(one, without_image=None) for one in record.tokens)
    assert all(one.without_image is not None for one in record.tokens)
    for part in parts:
        for name, view in record.views.items():
            streamed = part.views[name]
            assert streamed.axes == view.axes[1:]
            np.testing.assert_allclose(
                streamed.maps_float(), view.maps_float()[part.step], atol=1e-6 + 2 * view.facts.error_bound, rtol=0
            )
            np.testing.assert_allclose(streamed.shares, view.shares[part.step], atol=1e-6)
    whole = engine.run([GenerateRequest.build(pictures[0], PROMPT, options)])[0]
    assert encode(whole.without_run()) == encode(record.without_run())


def test_static_buffers_stream_the_same(static_engine, engine, pictures):
    options = {"views": VIEWS, "precision": "float32", "max_new_tokens": 10}
    ours, record = stream(static_engine, pictures[1], options)
    theirs, _ = stream(engine, pictures[1], options)
    assert record.run["decoder"] in ("static", "compiled")
    for part, other in zip(ours, theirs, strict=True):
        assert part.token.id == other.token.id
        for name, view in other.views.items():
            np.testing.assert_allclose(part.views[name].maps_float(), view.maps_float(), atol=1e-6, rtol=0)


def test_tokens_come_before_the_answer_is_finished(engine, pictures):
    seen = []
    for part in engine.stream(GenerateRequest.build(pictures[0], PROMPT, {"max_new_tokens": 12})):
        seen.append((type(part), time.perf_counter()))
    assert seen[-1][0] is Record
    assert len({when for _, when in seen}) == len(seen)


def test_named_steps_alone_carry_maps(engine, pictures):
    parts, record = stream(engine, pictures[0], {"steps": [0, 3], "max_new_tokens": 8})
    assert [part.step for part in parts if part.views] == [0, 3]
    assert len(parts) == len(record.tokens)


def test_an_abandoned_stream_stops_the_model_and_the_next_request_runs(engine, pictures):
    calls = []
    hook = engine.loaded.model.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        running = engine.stream(GenerateRequest.build(pictures[0], PROMPT, {"max_new_tokens": 64}))
        next(running)
        running.close()
        assert len(calls) == 1
    finally:
        hook.remove()
    assert isinstance(engine.run([GenerateRequest.build(pictures[0], PROMPT)])[0], Record)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"reduction": "all"}, "options.stream"),
        ({"num_beams": 2}, "options.stream"),
        ({"temperature": 1.0, "num_return_sequences": 2}, "options.stream"),
        ({"layers": [99]}, "options.layers[0]"),
        ({"steps": [63]}, "options.steps"),
    ],
)
def test_what_cannot_be_streamed_ends_with_the_refusal(options, field, engine, pictures):
    parts, error = stream(engine, pictures[0], options)
    assert isinstance(error, RequestError)
    assert error.field == field
    assert not parts or field == "options.steps"


def test_lines_are_json_that_holds_the_same_numbers(engine, pictures):
    request = GenerateRequest.build(pictures[0], PROMPT, {"views": VIEWS, "max_new_tokens": 6})
    parts = list(engine.stream(request))
    lines = [json.loads(line(part)) for part in parts]
    for one in lines[:-1]:
        # As in record.json: what is not known yet is no key, and what a reader makes of the line is the token.
        assert None not in one["token"].values()
        assert from_plain(Token, one["token"]).text == one["token"]["text"]
    assert [content["type"] for content in lines] == ["token"] * (len(parts) - 1) + ["record"]
    assert all(line(part).count(b"\n") == 1 for part in parts)
    record = decode(base64.b64decode(lines[-1]["npz_base64"]))
    assert lines[-1]["answer"] == record.answer
    for content in lines[:-1]:
        assert content["token"]["id"] == record.tokens[content["step"]].id
        for name, view in content["views"].items():
            stored = np.frombuffer(base64.b64decode(view["maps_base64"]), view["dtype"]).reshape(view["shape"])
            maps = dequantise(stored, np.float32(view["scales"]), view["encoding"])
            # One row alone and all rows together may be rounded another way.
            bound = 2 * record.views[name].facts.error_bound + 1e-6
            np.testing.assert_allclose(maps, record.views[name].maps_float()[content["step"]], atol=bound, rtol=0)
    assert json.loads(line(RequestError("deadline", "f", "m")))["error"]["code"] == "deadline"


def test_other_requests_run_between_the_tokens_of_open_streams(static_engine, engine, pictures):
    options = {"views": VIEWS, "precision": "float32", "max_new_tokens": 10}
    requests = [GenerateRequest.build(picture, PROMPT, options) for picture in pictures[:2]]
    alone = engine.run(requests)
    for ours in (engine, static_engine):
        first, second = (ours.stream(request) for request in requests)
        parts = [next(first), next(second)]
        between = ours.run(requests)
        parts += [*first, *second]
        ends = [part for part in parts if isinstance(part, Record)]
        for records in (between, ends):
            for record, wanted in zip(records, alone, strict=True):
                assert [token.id for token in record.tokens] == [token.id for token in wanted.tokens]
                for name, view in wanted.views.items():
                    np.testing.assert_allclose(record.views[name].maps_float(), view.maps_float(), atol=1e-6, rtol=0)
    # The first stream has the static buffers until its end, and afterwards they are free again.
    decoders = [record.run["decoder"] for record in (*between, *ends)]
    assert decoders[0] == decoders[1] == decoders[3] == "dynamic" != decoders[2]
    assert static_engine.run(requests[:1])[0].run["decoder"] == decoders[2]


def test_running_out_of_memory_ends_a_stream_with_a_refusal_and_frees_it(engine, pictures, monkeypatch):
    running = engine.stream(GenerateRequest.build(pictures[0], PROMPT, {"max_new_tokens": 12}))
    next(running)
    with monkeypatch.context() as patch:
        patch.setattr(engine._builder, "row_views", lambda *_: (_ for _ in ()).throw(MemoryError()))
        refusal = next(running)
    assert (refusal.code, refusal.status) == ("does_not_fit", 507)
    assert not list(running)
    assert isinstance(engine.run([GenerateRequest.build(pictures[0], PROMPT)])[0], Record)
