"""Many gRPC calls at once against a real gRPC server that answers, refuses, is silent, or waits for the rest."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from llava_viewer.client.transport.messages import messages
from stress.crowding.calls import Calls
from stress.crowding.messages import SERVICE

ENDED = threading.Event()


def answers(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    list(requests)
    _, response = messages()
    return bytes(response(prediction=b"PK\x03\x04").SerializeToString())


def refuses(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    context.set_trailing_metadata((("retry-after", "2"),))
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "server: got more, expected less")
    return b""


def keeps(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    ENDED.wait(20)
    return b""


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server whose one method is the test's function."""
    ENDED.clear()
    server = grpc.server(ThreadPoolExecutor(12))
    method = grpc.stream_unary_rpc_method_handler(request.param)
    name = SERVICE.strip("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Predictions": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    ENDED.set()
    server.stop(0).wait()


@pytest.mark.parametrize(
    ("served", "whole", "word"),
    [
        (answers, True, "answered"),
        (refuses, True, "RESOURCE_EXHAUSTED, retry after"),
        (keeps, True, "no reply"),
        (answers, False, "left open"),
        (refuses, False, "RESOURCE_EXHAUSTED, retry after"),
    ],
    indirect=["served"],
)
def test_calls_see_what_a_server_does(served: str, whole: bool, word: str) -> None:
    calls = Calls(served, "key", 4)
    seen = calls.send_all(bytes(500_000), 10, 1.0, whole=whole)
    calls.close()
    assert [one.word for one in seen] == [word] * 10


@pytest.mark.parametrize("served", [answers], indirect=True)
def test_calls_without_a_message_stay_open(served: str) -> None:
    calls = Calls(served, "key", 2)
    seen = calls.send_all(None, 4, 0.5, whole=False)
    calls.close()
    assert [one.word for one in seen] == ["left open"] * 4


def test_nobody_there() -> None:
    calls = Calls("127.0.0.1:9", None, 2)
    seen = calls.send_all(b"", 3, 5.0)
    calls.close()
    assert {one.word for one in seen} == {"UNAVAILABLE"}
