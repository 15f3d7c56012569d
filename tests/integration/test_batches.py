"""Batches under a budget and deadlines: each request has its own outcome."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llava_server.ask.request import GenerateRequest
from llava_server.engine import Engine
from llava_server.run import prepare
from llava_wire import Record, RequestError, encode
from support.pictures import scene_bytes

PICTURES = [scene_bytes(200, 160, seed) for seed in range(4)]


def requests(**options: object) -> list[GenerateRequest]:
    return [GenerateRequest.build(picture, "Describe the image.", options) for picture in PICTURES]


def test_a_batch_is_split_under_the_byte_budget_and_answers_stay_the_same(engine: Engine):
    whole = engine.run(requests(precision="float32"))
    one = engine.estimate(requests(precision="float32")[0]).device_bytes
    limits = replace(engine.settings.limits, batch_bytes=2 * one)
    parts = Engine(engine.loaded, replace(engine.settings, limits=limits)).run(requests(precision="float32"))
    assert [record.run["batch_size"] for record in whole] == [4, 4, 4, 4]
    assert [record.run["batch_size"] for record in parts] == [2, 2, 2, 2]
    for one_record, other in zip(whole, parts, strict=True):
        assert one_record.answer == other.answer
        np.testing.assert_allclose(one_record.maps_float(), other.maps_float(), atol=1e-6, rtol=0)


def test_padding_counts_when_the_longest_prompt_and_the_longest_answer_are_of_two_requests(engine: Engine):
    long_prompt = GenerateRequest.build(PICTURES[0], "word " * 90, {"max_new_tokens": 4})
    long_answer = GenerateRequest.build(PICTURES[1], "Describe the image.", {"max_new_tokens": 100})
    largest = max(engine.estimate(request).device_bytes for request in (long_prompt, long_answer))
    for room, sizes in ((2 * largest, [1, 1]), (4 * largest, [2, 2])):
        limits = replace(engine.settings.limits, batch_bytes=room)
        limited = Engine(engine.loaded, replace(engine.settings, limits=limits))
        assert [record.run["batch_size"] for record in limited.run([long_prompt, long_answer])] == sizes


def test_the_same_request_alone_gives_the_same_bytes_without_the_run_block(engine: Engine):
    first, second = (engine.run(requests()[:1])[0] for _ in range(2))
    assert encode(first.without_run()) == encode(second.without_run())
    assert first.run["finished_at"].endswith("Z")


def test_a_deadline_ends_generation_and_keeps_what_is_there(grouped):
    slow, _ = grouped
    request = GenerateRequest.build(PICTURES[0], "word", {"max_new_tokens": 256, "deadline_ms": 600})
    patient = GenerateRequest.build(PICTURES[1], "word", {"max_new_tokens": 40})
    # 256 steps of 5 ms and more pass the deadline on the fastest machine too.
    hook = slow.loaded.model.register_forward_pre_hook(lambda *_: time.sleep(0.005))
    try:
        record, other = slow.run([request, patient])
    finally:
        hook.remove()
    assert isinstance(record, Record)
    assert record.facts.finish_reason == "deadline"
    assert 1 <= len(record.tokens) < 256
    assert record.maps_float().shape[0] == len(record.tokens)
    assert other.facts.finish_reason in ("length", "stop")


def test_a_request_that_waited_past_its_deadline_is_refused_and_the_others_run(engine: Engine):
    late, fine = requests(deadline_ms=1000)[:2]
    late = replace(late, arrived_s=time.monotonic() - 5)
    first, second = engine.run([late, fine])
    assert isinstance(first, RequestError)
    assert (first.code, first.status, first.field) == ("deadline", 503, "options.deadline_ms")
    assert "1000 ms" in first.message
    assert isinstance(second, Record)


def test_a_batch_waits_for_a_picture_until_its_own_deadline_and_no_longer(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    slow, fine = requests(deadline_ms=60_000)[:2]
    slow = replace(slow, options=replace(slow.options, deadline_ms=300))
    let_go, real = threading.Event(), prepare.open_image

    def open_image(data: bytes, *rest: Any) -> Any:
        if data == slow.image:
            assert let_go.wait(300)
        return real(data, *rest)

    monkeypatch.setattr(prepare, "open_image", open_image)
    # Two threads, on a machine with one core as well: the other picture is not to wait for this one.
    own = Engine(engine.loaded, engine.settings)
    own._pictures = ThreadPoolExecutor(2)
    try:
        first, second = own.run([slow, fine])
        assert not let_go.is_set()
    finally:
        let_go.set()
    assert isinstance(first, RequestError)
    assert (first.code, first.field) == ("deadline", "options.deadline_ms")
    assert isinstance(second, Record)


@pytest.mark.parametrize("count", [0, 1])
def test_an_empty_list_gives_an_empty_list(count, engine: Engine):
    assert len(engine.run(requests()[:count])) == count
