"""Servers with canned replies and clients for them, one pair per transport."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llava_viewer.client import Client
from support.replies import GrpcServer, HttpServer


@pytest.fixture
def http_server() -> Iterator[HttpServer]:
    """A server over HTTP."""
    with HttpServer() as server:
        yield server


@pytest.fixture
def grpc_server() -> Iterator[GrpcServer]:
    """A server over gRPC."""
    with GrpcServer() as server:
        yield server


@pytest.fixture(params=["http", "grpc"])
def server(request: pytest.FixtureRequest) -> HttpServer | GrpcServer:
    """A server over each of the transports in turn."""
    found: HttpServer | GrpcServer = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Client]]:
    """Makes a client for a server, one that sends nothing twice unless told to; closes it afterwards."""
    monkeypatch.delenv("LLAVA_GAZE_TOKEN", raising=False)
    opened: list[Client] = []

    def open_client(server: HttpServer | GrpcServer, **options: Any) -> Client:
        make = Client.http if isinstance(server, HttpServer) else Client.grpc
        opened.append(make(server.address, **{"retry_s": 0.0, **options}))
        return opened[-1]

    yield open_client
    for client in opened:
        client.close()
