"""The handler without TorchServe: what it does when the engine itself fails, and what it writes into the context."""

from __future__ import annotations

import json
import logging
import time

import pytest

import llava_handler
from llava_handler import LlavaHandler
from llava_server.ask.request import GenerateRequest
from llava_server.front import journal
from llava_server.front.metrics import KINDS
from llava_wire import Record, decode
from support.context import Context
from support.handlers import HTTP, ROW, Engine, Metrics, answer, good


def test_one_engine_run_for_all_good_items_and_bodies_in_order() -> None:
    engine = Engine(good)
    bodies, context = answer(engine, [ROW, {}, ROW], [HTTP, HTTP, {}])
    assert engine.batches == [2]
    assert [decode(bodies[index]).run["request_id"] for index in (0, 2)] == ["request-0", "request-2"]
    assert context.statuses == {1: (400, "")}
    assert json.loads(bodies[1])["error"]["code"] == "bad_request"


def test_only_grpc_items_end_the_stream() -> None:
    _, context = answer(Engine(good), [ROW, ROW, {}], [HTTP, {"image": {"content-type": ""}}, {}])
    assert ["ts_stream_next" in sent for sent in context.sent] == [False, True, True]


def test_a_failing_engine_costs_only_the_item_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    def fails_on_bad(request: GenerateRequest) -> Record:
        if request.prompt == "bad":
            raise ZeroDivisionError(f"about {request.prompt}")
        return good(request)

    engine = Engine(fails_on_bad)
    with caplog.at_level(logging.INFO):
        bodies, context = answer(engine, [ROW, {**ROW, "prompt": b"bad"}, ROW], [HTTP] * 3)
    assert engine.batches == [3, 1, 1, 1]
    assert [body[:2] == b"PK" for body in bodies] == [True, False, True]
    assert context.statuses == {1: (500, "")}
    assert json.loads(bodies[1])["error"]["code"] == "internal"
    assert "ZeroDivisionError" in caplog.text
    assert "about bad" not in caplog.text


def test_too_large_an_answer_is_refused_before_torchserve_sees_it() -> None:
    bodies, context = answer(Engine(good, limit=1000), [ROW], [HTTP])
    assert context.statuses == {0: (507, "")}
    assert json.loads(bodies[0])["error"]["code"] == "does_not_fit"


def test_no_memory_to_write_an_answer_is_a_507_for_that_item(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = llava_handler.to_response, iter([False, True, False])

    def tight(*arguments: object) -> tuple[bytes, str]:
        if next(calls):
            raise MemoryError
        return real(*arguments)

    monkeypatch.setattr(llava_handler, "to_response", tight)
    bodies, context = answer(Engine(good), [ROW] * 3, [HTTP] * 3)
    assert [body[:2] == b"PK" for body in bodies] == [True, False, True]
    assert context.statuses == {1: (507, "")}
    assert json.loads(bodies[1])["error"]["code"] == "does_not_fit"


def test_a_broken_gpu_makes_the_worker_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[tuple[float, tuple[int, ...]]] = []

    class Timer:
        def __init__(self, delay_s: float, function: object, arguments: tuple[int, ...]) -> None:
            left.append((delay_s, arguments))

        def start(self) -> None:
            pass

    def breaks(request: GenerateRequest) -> Record:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(journal.threading, "Timer", Timer)
    bodies, _ = answer(Engine(breaks), [ROW], [HTTP])
    assert json.loads(bodies[0])["error"]["code"] == "internal"
    assert left == [(1.0, (1,))]


@pytest.mark.parametrize(
    ("wanted", "gpu_id", "device"),
    [("auto", None, "cpu"), ("auto", 1, "cuda:1"), ("cuda", 0, "cuda:0"), ("cuda", None, "cuda"), ("map", 0, "map"),
     ("cpu", 0, "cpu")],
)  # fmt: skip
def test_device_of_a_worker(wanted: str, gpu_id: int | None, device: str) -> None:
    assert llava_handler._device(wanted, gpu_id) == device


def test_the_users_own_device_list_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("LLAVA_GAZE_CUDA_VISIBLE_DEVICES", "MIG-1234")
    llava_handler._restore_devices()
    assert llava_handler.os.environ["CUDA_VISIBLE_DEVICES"] == "MIG-1234"


def test_a_name_that_utf8_cannot_hold_costs_only_its_own_item() -> None:
    bodies, context = answer(Engine(good), [{**ROW, "options": b'{"\\ud800": 1}'}, ROW], [HTTP] * 2)
    assert context.statuses == {0: (422, "")}
    assert json.loads(bodies[0])["error"]["field"] == "options.\\ud800"
    assert bodies[1][:2] == b"PK"


def test_text_parts_of_older_front_ends() -> None:
    _, context = answer(Engine(good), [{"image": b"x", "prompt": "text", "options": {"max_new_tokens": 5}}], [HTTP])
    assert context.statuses == {}


def test_figures_of_good_and_bad_items_and_of_their_batch() -> None:
    handler, context = LlavaHandler(), Context([{**HTTP, "content-length": "500"}, {}])
    handler._engine = Engine(good)  # type: ignore[assignment]
    context.metrics = Metrics()  # type: ignore[attr-defined]
    bodies = handler.handle([ROW, {"image": bytearray(b"12345")}], context)
    seen = context.metrics.seen  # type: ignore[attr-defined]
    assert ("llava_requests_total", "counter", 1, ("m", "http", "ok")) in seen
    assert ("llava_requests_total", "counter", 1, ("m", "grpc", "bad_request")) in seen
    assert [value for name, _, value, _ in seen if name == "llava_request_bytes_total"] == [500, 5]
    assert [value for name, _, value, _ in seen if name == "llava_reply_bytes_total"] == [len(body) for body in bodies]
    assert [value for name, _, value, _ in seen if name == "llava_batch_size"] == [2]
    for name, kind, value, labels in seen:
        assert kind == KINDS[name].type
        assert len(labels) == 1 + len(KINDS[name].labels)
        assert value >= 0


def test_what_parses_slowly_counts_into_the_deadline_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def late(request: GenerateRequest) -> Record:
        seen.append(time.monotonic() - request.arrived_s)
        return good(request)

    real = GenerateRequest.build
    monkeypatch.setattr(GenerateRequest, "build", lambda *a, **k: (time.sleep(0.05), real(*a, **k))[1])
    answer(Engine(late), [ROW, ROW], [HTTP, {}])
    assert min(seen) >= 0.1


def test_the_prompt_is_logged_only_when_that_was_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    row = {**ROW, "prompt": bytearray(b"zebra-4711")}
    for asked_for in (False, True):
        handler = LlavaHandler()
        handler._engine = Engine(good)  # type: ignore[assignment]
        handler._engine.settings.log_prompts = asked_for  # type: ignore[union-attr,misc]
        with caplog.at_level(logging.INFO):
            handler.handle([row], Context([HTTP]))
        assert ("zebra-4711" in caplog.text) == asked_for


def test_log_lines_are_ascii_whatever_a_request_holds(caplog: pytest.LogCaptureFixture) -> None:
    odd = "\x1b[31m red \r\n{forged} \u2028\u202e\x9b\x00 é"
    handler = LlavaHandler()
    handler._engine = Engine(good)  # type: ignore[assignment]
    handler._engine.settings.log_prompts = True  # type: ignore[union-attr,misc]
    handler._named_keys = True
    rows = [
        {**ROW, "prompt": odd.encode()},
        {**ROW, odd: b"1"},
        {**ROW, "options": json.dumps({odd: odd}).encode()},
        {**ROW, "x-llava-gaze-key": odd.encode()},
        {"image": b"x", "prompt": odd.encode("utf-16")},
    ]
    with caplog.at_level(logging.INFO):
        handler.handle(rows, Context([HTTP, HTTP, HTTP, {}, {**HTTP, "X-LLaVA-Gaze-Key": odd}]))
    assert [json.loads(line)["event"] for line in caplog.messages] == [*["request"] * len(rows), "batch"]
    for line in caplog.messages:
        assert line.isascii(), line
        assert line.isprintable(), line
    assert json.loads(caplog.messages[0])["prompt"] == odd
