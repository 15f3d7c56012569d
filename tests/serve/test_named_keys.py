"""Keys of one's own: who gets in over HTTP and gRPC, what the log names, and that they outlive a server."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest

from llava_server.front.item import Item
from llava_viewer.client import Client, RequestError, StreamedToken
from llava_wire import Record
from llava_wire.system.inner import KEY_HEADER
from servekit.paths import run_folder
from servekit.server import ServerHandle, start_server
from servekit.state import read_keys
from servekit.tls import Tls
from support.asking import MODEL, Asker

PROMPT = "What color is the square?"
ALICE, BOB = "alice-key-0123456789", "bob-key-0123456789-x"
NAME = f"test-keys-{os.getpid()}"
_INFERENCE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/"
_MANAGEMENT = "/org.pytorch.serve.grpc.management.ManagementAPIsService/"


def write_keys(path: Path, **keys: str) -> Path:
    """A private file of named keys."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"keys": keys}), "utf-8")
    partial.chmod(0o600)
    partial.replace(path)
    return path


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of this module's server."""
    return write_keys(tmp_path_factory.mktemp("keys") / "keys.yaml", alice=ALICE, bob=BOB)


@pytest.fixture(scope="module")
def gated(built_archive: Path, keys_file: Path) -> Iterator[ServerHandle]:
    """A server with named keys, and whoever started it waiting for its end."""
    with start_server([MODEL], name=NAME, ports="auto", keys=keys_file, timeout_s=300) as handle:
        threading.Thread(target=handle.wait, daemon=True).start()
        yield handle
    assert not [
        p for p in psutil.process_iter(["cmdline"]) if handle.state.scratch in " ".join(p.info["cmdline"] or [])
    ]
    shutil.rmtree(run_folder(NAME), ignore_errors=True)


def clients(handle: ServerHandle, **options: Any) -> Iterator[Client]:
    """A client for each transport."""
    for make, address in ((Client.http, handle.state.http), (Client.grpc, handle.state.grpc)):
        with make(address, **{"retry_s": 0, **options}) as client:
            yield client


def logged(handle: ServerHandle, request_id: str) -> dict[str, Any]:
    """The log line of a request."""
    text = (Path(handle.state.logs) / "requests.jsonl").read_text("utf-8")
    [line] = [line for line in text.splitlines() if request_id in line]
    return dict(json.loads(line))


@pytest.mark.serve
def test_every_named_key_opens_both_transports_and_the_log_names_it(
    gated: ServerHandle, asker: Asker, picture: bytes
) -> None:
    expected = asker.form(picture, PROMPT).record().answer
    own = read_keys(gated.state)["inference"]["key"]
    for name, key in (("alice", ALICE), ("bob", BOB), ("server", own)):
        for client in clients(gated, token=key):
            record = client.predict(picture, PROMPT)
            assert record.answer == expected
            line = logged(gated, record.run["request_id"])
            assert (line["key"], line["outcome"], line["transport"]) == (name, "ok", record.run["transport"])
            assert client.ready()
    for log in Path(gated.state.logs).rglob("*"):
        if log.is_file():
            content = log.read_bytes()
            assert not any(key.encode() in content for key in (ALICE, BOB, own)), log


@pytest.mark.serve
def test_without_a_key_or_with_a_wrong_one_nothing_is_answered(
    gated: ServerHandle, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAVA_GAZE_TOKEN", raising=False)
    keys = read_keys(gated.state)
    wrong = [None, "", "wrong", ALICE[:-1], ALICE + "x", ALICE.upper(), keys["management"]["key"], keys["API"]["key"]]
    for key in wrong:
        for client in clients(gated, token=key):
            with pytest.raises(RequestError) as caught:
                client.predict(picture, PROMPT)
            assert (caught.value.code, caught.value.field) == ("unauthorized", "token")
    url = f"{gated.state.http}/predictions/{MODEL}"
    form = {"image": ("x", picture), "prompt": (None, PROMPT)}
    for headers in (
        {"Authorization": f"Basic {ALICE}"},
        {"Authorization": ALICE},
        {"X-Authorization": f"Bearer {ALICE}"},
        {KEY_HEADER: "alice"},
    ):
        assert httpx.post(url, files=form, headers=headers).status_code == 400
    twice = [("Authorization", "Bearer wrong"), ("Authorization", f"Bearer {ALICE}")]
    assert httpx.post(url, files=form, headers=twice).status_code == 400
    # A large body that nobody reads does not cost the client the refusal.
    big = httpx.post(url, files={"image": ("x", bytes(12 << 20))}, headers={"Authorization": "Bearer no"})
    assert (big.status_code, big.json()["error"]["code"]) == (400, "unauthorized")
    for path in (
        "/api-description",
        "/v2/health/ready",
        f"/explanations/{MODEL}",
        "/ping/../api-description",
        "//ping",
    ):
        assert httpx.get(gated.state.http + path).status_code in (400, 404), path


@pytest.mark.serve
def test_a_second_request_on_a_connection_is_not_let_in_by_the_first(gated: ServerHandle) -> None:
    host, port = gated.state.http.removeprefix("http://").split(":")
    second = b"GET /api-description HTTP/1.1\r\nHost: x\r\n\r\n"
    for first in (
        b"GET /ping HTTP/1.1\r\nHost: x\r\n",
        f"GET /ping HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ALICE}\r\n".encode(),
    ):
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(first + b"Content-Length: 0\r\n\r\n" + second)
            connection.shutdown(socket.SHUT_WR)
            got = b""
            while piece := connection.recv(65536):
                got += piece
        assert b"Healthy" in got
        assert b"openapi" not in got


@pytest.mark.serve
def test_health_checks_need_no_key_and_nothing_else_does_without(gated: ServerHandle) -> None:
    for _ in range(2):
        answer = httpx.get(f"{gated.state.http}/ping")
        assert (answer.status_code, answer.json()) == (200, {"status": "Healthy"})
    with grpc.insecure_channel(gated.state.grpc) as channel:
        assert b"Healthy" in channel.unary_unary(_INFERENCE + "Ping")(b"", timeout=30)
        for method in ("Predictions", "StreamPredictions"):
            with pytest.raises(grpc.RpcError) as refused:
                list(channel.unary_stream(_INFERENCE + method)(b"", timeout=30))
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(grpc.RpcError) as unknown:
            channel.unary_unary(_MANAGEMENT + "ListModels")(b"", timeout=30)
        assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.serve
def test_named_keys_do_not_open_management(gated: ServerHandle) -> None:
    bearer = {"Authorization": f"Bearer {ALICE}"}
    assert httpx.get(f"{gated.state.management}/models", headers=bearer).status_code == 400
    assert httpx.put(f"{gated.state.management}/models/{MODEL}?min_worker=0", headers=bearer).status_code == 400
    config = dict(
        line.split("=", 1)
        for line in (run_folder(NAME) / "config.properties").read_text("utf-8").splitlines()
        if "=" in line
    )
    assert config["disable_token_authorization"] == "false"
    # TorchServe's own ports behind the front ask for its key, which named keys are not.
    assert httpx.get(f"{config['inference_address']}/ping", headers=bearer).status_code == 400
    with grpc.insecure_channel(f"127.0.0.1:{config['grpc_inference_port']}") as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(_INFERENCE + "Ping")(b"", metadata=(("authorization", f"Bearer {ALICE}"),), timeout=30)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.serve
def test_nobody_can_give_another_name(gated: ServerHandle, picture: bytes) -> None:
    url = f"{gated.state.http}/predictions/{MODEL}"
    headers = {"Authorization": f"Bearer {BOB}", KEY_HEADER: "alice", "Accept": "application/json"}
    answer = httpx.post(url, files={"image": ("x", picture), "prompt": (None, PROMPT)}, headers=headers, timeout=60)
    assert logged(gated, answer.json()["run"]["request_id"])["key"] == "bob"
    asker = Asker(gated.state)
    answered = asker.grpc_map({"image": picture, "prompt": PROMPT.encode(), KEY_HEADER: b"alice"}).record()
    assert logged(gated, answered.run["request_id"])["key"] == "server"
    asker.close()


@pytest.mark.serve
def test_streams_large_records_and_refusals_pass_unchanged(gated: ServerHandle, picture: bytes) -> None:
    with Client.http(gated.state.http, token=ALICE, retry_s=0) as client:
        *tokens, record = client.stream(picture, PROMPT)
        assert isinstance(record, Record)
        assert all(isinstance(token, StreamedToken) for token in tokens)
    for client in clients(gated, token=ALICE):
        large = client.predict(picture, "Hello?", layers="all", heads="all", reduction="none", precision="float32")
        assert len(large.tokens) > 0
        with pytest.raises(RequestError, match="layers"):
            client.predict(picture, PROMPT, layers=[99])
    for client in clients(gated, token=ALICE, model="none"):
        with pytest.raises(RequestError, match="unknown model 'none'"):
            client.predict(picture, PROMPT)


@pytest.mark.serve
def test_keys_are_added_and_taken_away_while_it_runs(gated: ServerHandle, keys_file: Path) -> None:
    def opens(key: str) -> bool:
        url = f"{gated.state.http}/api-description"
        return httpx.get(url, headers={"Authorization": f"Bearer {key}"}).status_code == 200

    try:
        assert (opens(ALICE), opens("carol-key-0123456789")) == (True, False)
        write_keys(keys_file, alice=ALICE, carol="carol-key-0123456789")
        assert (opens(ALICE), opens("carol-key-0123456789"), opens(BOB)) == (True, True, False)
        keys_file.write_text("keys: [")  # half written: the keys stay as they were, and the log says why
        assert (opens(ALICE), opens("carol-key-0123456789"), opens(BOB)) == (True, True, False)
        assert "not YAML" in (Path(gated.state.logs) / "front.log").read_text("utf-8")
    finally:
        write_keys(keys_file, alice=ALICE, bob=BOB)
    assert opens(BOB)


@pytest.mark.serve
def test_a_front_that_dies_is_started_again(gated: ServerHandle, picture: bytes) -> None:
    ours = [p for p in psutil.process_iter(["cmdline"]) if gated.state.scratch in " ".join(p.info["cmdline"] or [])]
    [front] = [process for process in ours if "servekit.front" in process.cmdline()]
    with Client.http(gated.state.http, token=ALICE, retry_s=30) as client:
        assert client.predict(picture, PROMPT).answer
        front.kill()
        assert client.predict(picture, PROMPT).answer


@pytest.mark.serve
def test_named_keys_outlive_a_server_and_go_with_tls(
    gated: ServerHandle, keys_file: Path, certificate: Tls, picture: bytes
) -> None:
    """Last of this module: another server with the same file, with a key of its own that is new."""
    name = f"{NAME}-again"
    with start_server([MODEL], name=name, ports="auto", keys=keys_file, tls=certificate, timeout_s=300) as again:
        assert read_keys(again.state)["inference"]["key"] != read_keys(gated.state)["inference"]["key"]
        for client in clients(again, token=ALICE, ca_file=certificate.certificate):
            assert client.predict(picture, PROMPT).answer
        for client in clients(again, token="wrong", ca_file=certificate.certificate):
            with pytest.raises(RequestError, match="token"):
                client.predict(picture, PROMPT)
        plain = again.state.http.replace("https://", "http://")
        with Client.http(plain, token=ALICE, retry_s=0) as client, pytest.raises(RequestError):
            client.predict(picture, PROMPT)
    shutil.rmtree(run_folder(name), ignore_errors=True)


def test_names_of_keys_are_believed_from_the_front_alone() -> None:
    head = {"host": "x", KEY_HEADER: "alice"}
    fields = {"image": b"x", "prompt": b"What?"}
    for gated, name in ((True, "alice"), (False, None)):
        assert Item.read(0, "r", fields, head, on_duty=True, named_keys=gated).key == name
    row = {**fields, KEY_HEADER: bytearray(b"bob")}
    seen = Item.read(0, "r", row, {}, on_duty=True, named_keys=True)
    assert (seen.key, isinstance(seen.asked, RequestError)) == ("bob", False)
    assert seen.log_line(RequestError("internal", "", "x"), "json", with_prompt=False)["key"] == "bob"
    ungated = Item.read(0, "r", row, {}, on_duty=True)
    assert isinstance(ungated.asked, RequestError)
    assert (ungated.key, ungated.asked.field) == (None, KEY_HEADER)
