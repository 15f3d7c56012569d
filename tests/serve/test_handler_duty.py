"""The handler without TorchServe: probes that it answers itself, its sign of life, and the end of its duty."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path

import pytest

import llava_handler
from llava_handler import LlavaHandler
from llava_server.ask.request import GenerateRequest
from llava_server.front.duty import Duty
from llava_server.front.heartbeat import Heartbeat
from llava_wire import Record
from support.context import Context
from support.handlers import HTTP, ROW, Engine, Metrics, good


def test_a_probe_is_answered_and_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    handler, context = LlavaHandler(), Context([HTTP, {}, {**HTTP, "Content-Type": "application/json"}])
    handler._engine = Engine(good)  # type: ignore[assignment]
    context.metrics = Metrics()  # type: ignore[attr-defined]
    rows = [{"ready": bytearray(b"1")}, {"ready": bytearray(b"")}, {"body": {"ready": True}}]
    with caplog.at_level(logging.INFO):
        bodies = handler.handle(rows, context)
    assert [json.loads(body) for body in bodies] == [{"status": "ready", "model": "m"}] * 3
    assert (context.statuses, ["ts_stream_next" in sent for sent in context.sent]) == ({}, [False, True, False])
    assert (context.metrics.seen, caplog.text) == ([], "")  # type: ignore[attr-defined]
    # Beside a request it is not counted either; with other fields it is none.
    context = Context([HTTP, HTTP, HTTP])
    context.metrics = Metrics()  # type: ignore[attr-defined]
    bodies = handler.handle([rows[0], ROW, {**ROW, "ready": b"1"}], context)
    assert [value for name, _, value, _ in context.metrics.seen if name == "llava_batch_size"] == [2]  # type: ignore[attr-defined]
    assert (bodies[1][:2], json.loads(bodies[2])["error"]["field"]) == (b"PK", "ready")


def test_a_probe_by_name_is_answered_amid_requests_and_touches_neither_model_nor_figures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine, named = Engine(good), {**HTTP, "X-LLaVA-Gaze-Probe": "1"}
    handler, context = (
        LlavaHandler(),
        Context([HTTP, named, {}, {**HTTP, "x-llava-gaze-probe": "0"}, {"host": "x"}, {}]),
    )
    handler._engine = engine  # type: ignore[assignment]
    context.metrics = Metrics()  # type: ignore[attr-defined]
    rows = [ROW, ROW, {"x-llava-gaze-probe": bytearray(b"1"), "model": b"?"}, ROW, {}, {"x-llava-gaze-probe": b"yes"}]
    with caplog.at_level(logging.INFO):
        bodies = handler.handle(rows, context)
    assert engine.batches == [2]
    assert [bodies[index] for index in (1, 2)] == [b'{"ready": true}'] * 2
    assert [bodies[index][:2] for index in (0, 3)] == [b"PK"] * 2
    assert (context.sent[1]["content-type"], context.sent[2]["ts_stream_next"]) == ("application/json", "false")
    assert context.statuses == {4: (400, ""), 5: (422, "")}
    assert json.loads(bodies[5])["error"]["field"] == "x-llava-gaze-probe"
    seen = [json.loads(message) for message in caplog.messages]
    assert [line["request"] for line in seen if line["event"] == "request"] == [f"request-{i}" for i in (0, 3, 4, 5)]
    assert [line["size"] for line in seen if line["event"] == "batch"] == [4]
    counted = [labels for name, *_, labels in context.metrics.seen if name == "llava_requests_total"]  # type: ignore[attr-defined]
    assert len(counted) == 4


def test_a_probe_by_name_after_the_end_of_duty_is_refused_without_a_trace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    handler = LlavaHandler()
    handler._engine = Engine(good)  # type: ignore[assignment]
    handler._duty = Duty(tmp_path)
    (tmp_path / "drain.json").write_text('{"waiting": 0}')
    context = Context([{**HTTP, "x-llava-gaze-probe": "1"}])
    with caplog.at_level(logging.INFO):
        bodies = handler.handle([{}], context)
    assert (json.loads(bodies[0])["error"]["code"], context.statuses) == ("unavailable", {0: (503, "")})
    assert caplog.text == ""


def test_a_worker_beats_busy_while_it_runs_a_batch(tmp_path: Path) -> None:
    handler, seen = LlavaHandler(), []
    handler._heart = Heartbeat(tmp_path, "m")

    def looks(request: GenerateRequest) -> Record:
        handler._heart._beat(tmp_path)
        seen.append(json.loads((tmp_path / f"{os.getpid()}.beat").read_text()))
        return good(request)

    handler._engine = Engine(looks)  # type: ignore[assignment]
    begin = time.time()
    handler.handle([ROW], Context([HTTP]))
    handler._heart._beat(tmp_path)
    seen.append(json.loads((tmp_path / f"{os.getpid()}.beat").read_text()))
    assert [(one["pid"], one["model"]) for one in seen] == [(os.getpid(), "m")] * 2
    assert begin - 0.001 <= seen[0]["busy_since"] <= seen[0]["written"] <= time.time()
    assert seen[1]["busy_since"] is None


def test_a_worker_is_known_by_the_number_that_its_successor_gets() -> None:
    assert llava_handler._worker_name(["w.py", "--sock-type", "unix", "--sock-name", "/tmp/x/.ts.sock.9001"]) == "9001"
    assert llava_handler._worker_name(["w.py", "--sock-type", "tcp", "--port", "9000"]) == "9000"
    assert llava_handler._worker_name(["pytest"]) == str(os.getpid())


def test_after_the_end_of_duty_what_waited_is_answered_and_the_rest_refused(tmp_path: Path) -> None:
    handler = LlavaHandler()
    handler._engine = Engine(good)  # type: ignore[assignment]
    handler._duty = Duty(tmp_path)

    def codes(count: int) -> list[str]:
        bodies = handler.handle([ROW] * count, Context([HTTP] * count))
        return ["ok" if body[:2] == b"PK" else json.loads(body)["error"]["code"] for body in bodies]

    assert codes(2) == ["ok", "ok"]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "drain.json").write_text('{"waiting": 3}')
    assert codes(2) == ["ok", "ok"]
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]
    assert codes(3) == ["ok", "unavailable", "unavailable"]
    assert (tmp_path / f"{os.getpid()}.past").exists()
    assert codes(1) == ["unavailable"]
    assert not (tmp_path / f"{os.getpid()}.busy").exists()


def test_a_vanished_folder_or_an_odd_file_keeps_the_worker_on_duty(tmp_path: Path) -> None:
    for folder in (tmp_path / "gone", tmp_path):
        (tmp_path / "drain.json").write_text("{")
        with Duty(folder).batch(4) as taken:
            assert taken == 4
