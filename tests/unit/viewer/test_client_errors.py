"""One typed error for each refusal, the same over both transports; the texts are a real TorchServe 0.12's."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest

from llava_viewer.cli import main
from llava_viewer.client import Client, RequestError, ServerUnreachable
from llava_viewer.client.address import shown
from llava_viewer.client.errors import from_grpc, from_http
from llava_wire.errors import STATUSES
from support.replies import GrpcServer, HttpServer, Reply

Code = grpc.StatusCode
Connect = Callable[..., Client]


class Refusal(NamedTuple):
    """How TorchServe says something over either transport, and what it means; None where a transport has no form."""

    name: str
    http: tuple[int, str, str] | None
    grpc: tuple[grpc.StatusCode, str] | None
    code: str
    field: str


_NO_WORKER = (
    'Model "probe" has no worker to serve inference request. Please use scale workers API to add workers. If this is a '
    "sequence inference, please check if it is closed, or expired; or exceeds maxSequenceJobQueueSize"
)
_TOKEN = "Token Authorization failed. Token either incorrect, expired, or not provided correctly"
_CLASS = "org.pytorch.serve.http.InternalServerException"
REFUSALS = [
    Refusal(
        "bad token", (400, "InvalidKeyException", _TOKEN), (Code.PERMISSION_DENIED, _TOKEN), "unauthorized", "token"
    ),
    Refusal(
        "unknown model",
        (404, "ModelNotFoundException", "Model not found: nope"),
        (Code.INTERNAL, "Model not found: nope\norg.pytorch.serve.archive.model.ModelNotFoundException"),
        "not_found",
        "model",
    ),
    Refusal(
        "unknown version",
        (404, "ModelVersionNotFoundException", "Model version: 9.0 does not exist for model: probe"),
        None,
        "not_found",
        "model",
    ),
    Refusal(
        "no model name",
        None,
        (Code.INTERNAL, "Parameter model_name is required.\nBadRequestException.()"),
        "not_found",
        "model",
    ),
    Refusal(
        "unknown path",
        (404, "ResourceNotFoundException", "Requested resource is not found, please refer to API document."),
        (Code.UNIMPLEMENTED, "Method not found"),
        "not_found",
        "server",
    ),
    Refusal(
        "queue full",
        (503, "ServiceUnavailableException", _NO_WORKER),
        (Code.INTERNAL, f"{_NO_WORKER}\nInternalServerException.()"),
        "overloaded",
        "server",
    ),
    Refusal(
        "worker died",
        (500, "InternalServerException", "Worker died."),
        (Code.INTERNAL, f"Worker died.\n{_CLASS}"),
        "worker_died",
        "server",
    ),
    Refusal("worker killed", (507, "InternalServerException", "Worker died."), None, "worker_died", "server"),
    Refusal(
        "out of memory",
        (507, "InternalServerException", "Out of resources"),
        (Code.INTERNAL, f"Out of resources\n{_CLASS}"),
        "does_not_fit",
        "server",
    ),
    Refusal(
        "handler raised",
        (503, "InternalServerException", "Prediction failed"),
        (Code.UNAVAILABLE, f"Prediction failed\n{_CLASS}"),
        "internal",
        "server",
    ),
    Refusal(
        "malformed form",
        (500, "ErrorDataDecoderException", "java.lang.NullPointerException: Cannot invoke ..."),
        None,
        "bad_request",
        "body",
    ),
    Refusal(
        "plain HTTP where TLS is spoken",
        (403, "", "This TorchServe instance only accepts HTTPS requests"),
        None,
        "bad_request",
        "url",
    ),
    Refusal("wrong method", (405, "MethodNotAllowedException", "not allowed"), None, "not_found", "server"),
    Refusal("something new", (418, "X", "teapot"), (Code.UNKNOWN, "?"), "", "server"),
]


def refused(client: Client, image: bytes = b"image", timeout_s: float | None = None) -> RequestError:
    """The error of a request that is refused."""
    with pytest.raises(RequestError) as caught:
        client.predict(image, "what?", timeout_s=timeout_s)
    error = caught.value
    assert error.status == STATUSES[error.code]
    said = error.message.startswith("got ") and ", expected " in error.message
    assert said or error.message.startswith("internal error; see the server log")
    assert str(error).isprintable()
    return error


@pytest.mark.parametrize("refusal", [r for r in REFUSALS if r.http], ids=lambda r: r.name)
def test_torchserve_over_http(refusal: Refusal, http_server: HttpServer, connect: Connect) -> None:
    assert refusal.http
    status, kind, message = refusal.http
    body = json.dumps({"code": status, "type": kind, "message": message}, indent=2)
    http_server.reply = Reply(body.encode(), status=status)
    error = refused(connect(http_server))
    assert error.code == (refusal.code or "bad_request")
    assert error.field == (refusal.field if refusal.name != "unknown path" else "url")


@pytest.mark.parametrize("refusal", [r for r in REFUSALS if r.grpc], ids=lambda r: r.name)
def test_torchserve_over_grpc(refusal: Refusal, grpc_server: GrpcServer, connect: Connect) -> None:
    assert refusal.grpc
    grpc_server.reply = Reply(code=refusal.grpc[0], details=refusal.grpc[1])
    error = refused(connect(grpc_server))
    assert error.code == (refusal.code or "unavailable")
    assert error.field == refusal.field


@pytest.mark.parametrize("code", STATUSES)
def test_the_handlers_own_refusals(
    code: str, http_server: HttpServer, grpc_server: GrpcServer, connect: Connect
) -> None:
    sent = RequestError(code, "options.layers[1]", "got 9, expected 0..3; take a smaller one é")
    body = json.dumps(sent.to_body(), ensure_ascii=False).encode()
    http_server.reply = Reply(body, status=sent.status)
    grpc_server.reply = Reply(body)  # with OK: TorchServe cannot set a status there
    for server in (http_server, grpc_server):
        error = refused(connect(server))
        assert (error.code, error.status, error.field, error.message) == (code, sent.status, sent.field, sent.message)


def test_over_size_requests(http_server: HttpServer, grpc_server: GrpcServer, connect: Connect) -> None:
    http_server.reply = Reply(b"", status=413)
    error = refused(connect(http_server), bytes(2 << 20))
    assert (error.code, error.field) == ("too_large", "image")
    assert "20971" in error.message
    reset = "Stream removed (RST_STREAM (Received RST_STREAM with error code 8))"
    grpc_server.reply = Reply(code=Code.CANCELLED, details=reset)
    assert refused(connect(grpc_server), bytes(2 << 20)).code == "too_large"
    # A small request was not cut off for its size.
    assert refused(connect(grpc_server)).code == "unavailable"
    # A limit of gRPC itself, here of the test's server.
    error = refused(connect(grpc_server), bytes(9 << 20))
    assert (error.code, error.field) == ("too_large", "image")


@pytest.mark.parametrize("lost_bytes", [-1, 1, 1000])
def test_a_reply_that_breaks_off(lost_bytes: int, http_server: HttpServer, connect: Connect) -> None:
    http_server.reply = Reply(b"PK\x03\x04 and so on", lost_bytes=lost_bytes)
    error = refused(connect(http_server))
    assert error.code == "unavailable"
    assert "broke off" in error.message
    assert from_grpc("UNAVAILABLE", "Socket closed", "host:1", 9, 1.0).message.startswith("got a connection that broke")


def test_no_answer_in_time(http_server: HttpServer, grpc_server: GrpcServer, connect: Connect) -> None:
    for server in (http_server, grpc_server):
        server.reply = Reply(b"late", delay_s=0.8)
        error = refused(connect(server, timeout_s=0.2))
        assert (error.code, error.field) == ("deadline", "timeout_s")
        assert "expected 0.2 s" in error.message
        assert refused(connect(server), timeout_s=0.1).code == "deadline"


def test_nothing_listens_there(connect: Connect) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets the port
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for client in (Client.http(f"http://{address}"), Client.grpc(address)):
            with client:
                error = refused(client)
                assert isinstance(error, ServerUnreachable)
                assert isinstance(error, ConnectionError)
                assert address in str(error)
                assert "make serve" in str(error)
                assert not client.ready(timeout_s=2)


def test_the_other_transports_port(http_server: HttpServer, grpc_server: GrpcServer) -> None:
    with Client.grpc(http_server.address.removeprefix("http://")) as client:
        assert isinstance(refused(client), ServerUnreachable)
    with Client.http(f"http://{grpc_server.address}") as client:
        assert refused(client).code == "unavailable"


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "bad_request"), (401, "unauthorized"), (403, "unauthorized"), (404, "not_found"), (408, "deadline"),
     (415, "unsupported_media"), (422, "invalid"), (429, "overloaded"), (500, "internal"), (502, "unavailable"),
     (503, "unavailable"), (504, "deadline"), (507, "does_not_fit"), (301, "not_found")],
)  # fmt: skip
def test_bare_statuses_of_a_proxy(status: int, code: str) -> None:
    error = from_http(status, b"<html>\x1b[31m" + b"x" * 5000, 10)
    assert error.code == code
    assert str(error).isprintable()
    assert len(str(error)) < 400


@pytest.mark.parametrize(
    ("name", "code"),
    [("UNAUTHENTICATED", "unauthorized"), ("NOT_FOUND", "not_found"), ("INVALID_ARGUMENT", "bad_request"),
     ("FAILED_PRECONDITION", "invalid"), ("RESOURCE_EXHAUSTED", "too_large"), ("INTERNAL", "internal"),
     ("DEADLINE_EXCEEDED", "deadline"), ("DATA_LOSS", "unavailable"), ("ABORTED", "unavailable")],
)  # fmt: skip
def test_bare_grpc_codes(name: str, code: str) -> None:
    assert from_grpc(name, "", "host:1", 10, 1.0).code == code


@pytest.mark.parametrize(
    ("name", "said", "code", "field"),
    [
        ("RESOURCE_EXHAUSTED", "server: too many calls at once; retry in 2 s",
         "overloaded", "server"),
        ("UNAVAILABLE", "server: server is starting or has stopped; retry",
         "unavailable", "server"),
        ("INVALID_ARGUMENT", "body: got more than 64 inputs, expected at most 64; send fewer", "invalid", "body"),
        ("INVALID_ARGUMENT", "body: got more than 9 bytes, expected at most 9; send less", "too_large", "body"),
        ("INVALID_ARGUMENT", "server: got bytes that are not a PredictionsRequest, expected one; correct it",
         "bad_request", "server"),
    ],
)  # fmt: skip
def test_what_the_front_says_over_grpc_is_given_as_it_is(name: str, said: str, code: str, field: str) -> None:
    error = from_grpc(name, said, "host:1", 10, 1.0, retry_after="2" if code == "overloaded" else "")
    assert (error.code, error.field) == (code, field)
    assert str(error).startswith(said)


@pytest.mark.parametrize(
    "body", [b'{"error": "x"}', b'{"error": {"code": "odd"}}', b'{"error": {"code": "invalid"', b'{"error":']
)
def test_bodies_that_only_look_like_an_error(body: bytes) -> None:
    assert from_http(422, body, 10).code == "invalid"
    assert from_http(503, body, 10).code == "unavailable"


@pytest.mark.parametrize(
    ("address", "seen"),
    [
        ("http://127.0.0.1:8080/under/a@b", "http://127.0.0.1:8080/under/a@b"),
        ("http://user:secret@host:8080/under", "http://host:8080/under"),
        ("https://secret@host", "https://host"),
        ("http://user:sec@ret@host", "http://host"),
        ("http://user:secret/more@host:1", "http://host:1"),
        ("ftp://user:secret@host", "ftp://host"),
        ("user:secret@host:7070", "host:7070"),
    ],
)
def test_an_address_is_shown_without_its_password(address: str, seen: str) -> None:
    assert shown(address) == seen
    assert str(ServerUnreachable(address, f"lookup of {address}")).count(seen) == 2
    assert "secret" not in str(from_grpc("UNIMPLEMENTED", "", address, 1, 1))


@pytest.mark.parametrize(
    "ask",
    [
        ["--url", "http://user:secret@127.0.0.1:9"],
        ["--url", "http://user:secret@127.0.0.1:9/predictions/a", "--model", "b"],
        ["--url", "ftp://user:secret@127.0.0.1:9"],
        ["--url", "user:secret@127.0.0.1:9"],
        ["--grpc", "user:secret@127.0.0.1:9"],
    ],
)
def test_no_message_of_a_command_holds_a_password(
    ask: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "x.png"
    picture.write_bytes(b"x")
    try:
        code = main(["predict", str(picture), "what?", *ask, "--retry", "0"])
    except SystemExit as error:  # the parser's own
        code = int(str(error.code))
    said = capsys.readouterr()
    assert code in (1, 2)
    assert "error: " in said.err
    assert "secret" not in said.out + said.err


def test_a_client_of_two_models_is_refused_without_the_password() -> None:
    with pytest.raises(ValueError, match=r"beside http://127\.0\.0\.1:9/predictions/a, expected"):
        Client.http("http://user:secret@127.0.0.1:9/predictions/a", model="b")
