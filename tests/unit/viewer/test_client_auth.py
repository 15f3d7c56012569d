"""Where the token comes from, and that a key file is read afresh for every request."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llava_viewer.client import Client, RequestError
from llava_viewer.client.auth import read_token
from support.replies import GrpcServer, HttpServer, Reply

Connect = Callable[..., Client]


def write_keys(path: Path, inference: object) -> None:
    """A key file in TorchServe's form."""
    other = {"key": "not-this", "expiration time": "2026-01-01T00:00:00Z"}
    path.write_text(json.dumps({"management": other, "inference": inference, "API": {"key": "nor-this"}}))


def test_a_key_file_is_read_for_every_request(
    server: HttpServer | GrpcServer, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAVA_GAZE_TOKEN", "from-environment")
    keys = tmp_path / "key_file.json"
    client = connect(server, token=keys)
    server.reply = Reply(b'{"answer": ""}')
    for key in ("first", "second"):
        write_keys(keys, {"key": key, "expiration time": "2026-01-01T00:00:00Z"})
        client.predict_bytes(b"image", "what?")
    assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer first", "Bearer second"]
    keys.unlink()
    with pytest.raises(RequestError, match=r"key_file: got .*key_file\.json .*No such file"):
        client.predict_bytes(b"image", "what?")


def test_a_string_beats_the_environment(
    server: HttpServer | GrpcServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.reply = Reply(b'{"answer": ""}')
    monkeypatch.setenv("LLAVA_GAZE_TOKEN", "from-environment\n")
    connect(server, token="given").predict_bytes(b"image", "what?")
    connect(server).predict_bytes(b"image", "what?")
    assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer given", "Bearer from-environment"]


def test_without_a_token_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAVA_GAZE_TOKEN", raising=False)
    assert read_token(None) is None
    assert read_token("") is None


@pytest.mark.parametrize("inference", [None, {}, [], "key"])
def test_a_key_file_without_the_key(inference: object, tmp_path: Path) -> None:
    keys = tmp_path / "key_file.json"
    write_keys(keys, inference)
    with pytest.raises(RequestError, match=r"key_file: got .* without inference\.key"):
        read_token(keys)


def test_a_broken_key_file(tmp_path: Path) -> None:
    keys = tmp_path / "key_file.json"
    keys.write_text("{")
    with pytest.raises(RequestError) as caught:
        read_token(keys)
    assert caught.value.code == "unauthorized"


@pytest.mark.parametrize("key", [3, ["a"], {"a": 1}, None, True, ""])
def test_a_key_that_is_no_text(key: object, tmp_path: Path) -> None:
    keys = tmp_path / "key_file.json"
    write_keys(keys, {"key": key})
    with pytest.raises(RequestError, match=r"key_file: got .* whose inference\.key is no text"):
        read_token(keys)


def test_files_that_hold_no_keys(tmp_path: Path) -> None:
    keys = tmp_path / "key_file.json"
    for data in (b"", b"[" * 100_000, b"\xff", b"[]", b'"inference"', b"7", b'{"inference": "' + b"x" * (2 << 20)):
        keys.write_bytes(data)
        with pytest.raises(RequestError) as caught:
            read_token(keys)
        assert (caught.value.code, caught.value.field) == ("unauthorized", "key_file"), data[:20]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, Path("/dev/zero"), Path("a\0b"), tmp_path / ("x" * 5000)):
        with pytest.raises(RequestError, match="key_file: got "):
            read_token(path)


def test_a_key_that_no_server_would_take() -> None:
    with pytest.raises(RequestError, match="token: got a key of 9000 characters from token, expected 8192"):
        read_token("k" * 9000)


@pytest.mark.parametrize("key", ["a\r\nx-other: 1", "a b", "schlüssel", "a\0"])
def test_a_key_cannot_smuggle_headers(key: str) -> None:
    with pytest.raises(RequestError, match="token: got a key with odd characters"):
        read_token(key)


@pytest.mark.parametrize(
    ("package", "make", "extra"),
    [("httpcore2", Client.http, "http"), ("grpc", Client.grpc, "grpc"), ("google.protobuf", Client.grpc, "grpc")],
)
def test_a_missing_package_names_the_extra(
    package: str, make: Callable[[], Client], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llava_viewer.client.transport import messages

    messages.messages.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"its extra '{extra}' .*pip install '\.\[{extra}\]'"):
        make()
