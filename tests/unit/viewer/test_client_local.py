"""Servers of this machine are found by the file that they keep, so that a question needs no address, model and key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from llava_viewer.cli import main
from llava_viewer.client import Client, RequestError, local
from llava_viewer.client.address import place, split_url
from llava_wire import encode
from llava_wire.system.machine import Machine, this_machine, whereabouts
from support.replies import GrpcServer, HttpServer, Reply
from support.synthetic import make_picture, make_record

RECORD = make_record(words=("A", " red"), reductions=("layers_heads",), with_picture=False)
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def java() -> Iterator[int]:
    """The pid of a process whose command line is TorchServe's."""
    command = [sys.executable, "-c", "import time; time.sleep(600)", "org.pytorch.serve.ModelServer"]
    with subprocess.Popen(command) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def write(tmp_path: Path, java: int, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the state of a server into a checkout of its own."""
    monkeypatch.setattr("llava_wire.system.running._ROOT", tmp_path)
    monkeypatch.delenv("LLAVA_GAZE_SERVER", raising=False)
    monkeypatch.delenv("LLAVA_GAZE_TOKEN", raising=False)

    def one(name: str, /, key: str = "local-key", **changes: Any) -> Path:
        folder = tmp_path / ".run" / name
        folder.mkdir(parents=True, exist_ok=True)
        keys = folder / "key_file.json"
        keys.write_text(json.dumps({"inference": {"key": key}}), "utf-8")
        state = {
            "name": name, "status": "ready", "models": ["llava-shapes"], "http": "http://127.0.0.1:1",
            "grpc": "127.0.0.1:1", "key_file": str(keys), "certificate": "", "pid": java,
            **this_machine()._asdict(), **changes,
        }  # fmt: skip
        (folder / "server.json").write_text(json.dumps(state), "utf-8")
        return folder

    return one


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture file."""
    path = tmp_path / "x.png"
    make_picture(60, 40).save(path)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_needs_neither_address_nor_model_nor_key(
    write: Write, http_server: HttpServer, grpc_server: GrpcServer, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("default", models=["mine"], http=http_server.address, grpc=grpc_server.address)
    for server, more in ((http_server, []), (grpc_server, ["--grpc"])):
        server.reply = Reply(encode(RECORD))
        code, out, err = run(capsys, "predict", picture, "what?", *more)
        assert (code, out) == (0, "A red\n")
        assert err.startswith(f"asking mine at {server.address}\n")
        (seen,) = server.seen
        assert (seen.model, seen.headers["authorization"]) == ("mine", "Bearer local-key")


def test_the_address_that_a_server_prints_names_its_model_and_finds_its_key(
    write: Write, http_server: HttpServer, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("default", models=["first", "my model"], http=http_server.address)
    http_server.reply = Reply(encode(RECORD))
    url = f"{http_server.address}/predictions/my%20model"
    for printed in (url, f"{url}/", url.replace("127.0.0.1", "localhost")):
        assert run(capsys, "predict", picture, "what?", "--url", printed)[0] == 0
    assert {seen.model for seen in http_server.seen} == {"my%20model"}
    assert {seen.headers["authorization"] for seen in http_server.seen} == {"Bearer local-key"}
    code, _, err = run(capsys, "predict", picture, "what?", "--url", url, "--model", "first")
    assert (code, "leave one out" in err) == (2, True)


def test_a_key_goes_to_the_server_that_it_belongs_to_and_to_no_other(
    write: Write, http_server: HttpServer, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("default")
    http_server.reply = Reply(encode(RECORD))
    assert run(capsys, "predict", picture, "what?", "--url", http_server.address)[0] == 0
    assert "authorization" not in http_server.seen[0].headers


def test_keys_that_are_given_come_first(
    write: Write,
    http_server: HttpServer,
    picture: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("default", http=http_server.address)
    http_server.reply = Reply(encode(RECORD))
    monkeypatch.setenv("LLAVA_GAZE_TOKEN", "mine")
    assert run(capsys, "predict", picture, "what?")[0] == 0
    assert run(capsys, "predict", picture, "what?", "--token", "other")[0] == 0
    assert [seen.headers["authorization"] for seen in http_server.seen] == ["Bearer mine", "Bearer other"]


def test_which_of_several_servers(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local.find_server() is None
    write("second", models=["b"])
    assert local.find_server().name == "second"  # type: ignore[union-attr]
    folder = write("third", models=["c", "d"])
    with pytest.raises(RequestError, match=r"name: got none, expected one of .* second \(b\), third \(c, d\)"):
        local.find_server()
    assert local.require_server("third").models == ("c", "d")
    for chosen in ("third", str(folder), str(folder / "server.json")):
        monkeypatch.setenv("LLAVA_GAZE_SERVER", chosen)
        assert local.require_server().name == "third"
    monkeypatch.setenv("LLAVA_GAZE_SERVER", "gone")
    with pytest.raises(RequestError, match=r"LLAVA_GAZE_SERVER: got 'gone', expected .* second \(b\)"):
        local.find_server()
    monkeypatch.delenv("LLAVA_GAZE_SERVER")
    write("default")
    assert local.require_server().name == "default"


def test_a_server_that_is_starting_is_waited_for(
    write: Write, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("default", status="starting", pid=0, launcher_pid=os.getpid())
    for name in (None, "default"):
        with pytest.raises(
            RequestError, match=r"name: got 'default', which is still starting, .* make serve says so"
        ) as caught:
            local.find_server(name)
        assert caught.value.code == "unavailable"
    code, _, told = run(capsys, "predict", picture, "what?")
    assert (code != 0, "which is still starting" in told) == (True, True)
    write("other")
    assert local.require_server().name == "other"
    write("default", status="starting", pid=0, launcher_pid=2**31 - 1)  # its launcher was killed
    with pytest.raises(RequestError, match="start it"):
        local.find_server("default")


@pytest.mark.parametrize(
    "changes", [{"status": "starting"}, {"pid": 0}, {"pid": 1}, {"host": "other"}, {"boot_id": "before"}, {"models": 3}]
)
def test_servers_that_cannot_be_asked_are_not_found(write: Write, changes: dict[str, Any]) -> None:
    write("default", **changes)
    assert local.local_servers() == []
    with pytest.raises(RequestError, match=r"name: got 'default', expected .*: none is; start it"):
        Client.local("default")


@pytest.mark.parametrize(
    "changes",
    [
        {"pid": 1e999}, {"pid": 10**400}, {"pid": -1}, {"pid": True}, {"pid": "1"}, {"pid": 2**63}, {"pid": None},
        {"models": "abc"}, {"models": {"a": 1}}, {"models": [["a"]]}, {"models": [""]}, {"models": ["\x1b[2J"]},
        {"http": 80}, {"http": ""}, {"http": "http://a\n"}, {"grpc": None}, {"key_file": 3}, {"key_file": None},
        {"certificate": ["x"]}, {"certificate": 1}, {"host": ["a"]}, {"boot_id": {}}, {"name": ["x"]},
        {"name": "\ud800"}, {"status": ["ready"]},
    ],
)  # fmt: skip
def test_states_that_no_server_wrote_are_none(write: Write, changes: dict[str, Any]) -> None:
    write("default", **changes)
    assert local.local_servers() == []


def test_files_that_are_no_states_are_none(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("default") / "server.json"
    whole = path.read_bytes()
    assert len(local.local_servers()) == 1
    for data in (
        b"", b"[]", b"7", b"null", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"\0" * 100, whole[:-1],
        whole[:-1] + b', "x": "' + b"x" * (2 << 20) + b'"}',
    ):  # fmt: skip
        path.write_bytes(data)
        assert local.local_servers() == [], data[:20]
    path.unlink()
    os.mkfifo(path)
    assert local.local_servers() == []
    path.unlink()
    path.symlink_to("/dev/zero")
    assert local.local_servers() == []
    path.unlink()
    path.mkdir()
    assert local.local_servers() == []
    for where in ("~nobody-of-that-name/x", "a/\0", "/dev/zero/", "/" + "x" * 300):
        with pytest.raises(RequestError, match="expected a server that is ready on this machine"):
            local.find_server(where)


def test_an_address_that_is_none_in_a_state(write: Write, picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("default", http="file:///etc/passwd", grpc="http://[::1", models=["m"])
    for more in ([], ["--grpc"]):
        code, _, err = run(capsys, "predict", picture, "what?", *more)
        assert code == 1
        assert err.splitlines()[-1].startswith(("error: url: got", "error: target: got"))


def test_a_python_client_of_this_machine(write: Write, http_server: HttpServer, grpc_server: GrpcServer) -> None:
    write("default", models=["mine"], http=http_server.address, grpc=grpc_server.address)
    for server in (http_server, grpc_server):
        server.reply = Reply(encode(RECORD))
        with Client.local(grpc=server is grpc_server, retry_s=0) as client:
            assert client.predict(b"image", "what?", keep_picture=False).answer == RECORD.answer
        assert (server.seen[0].model, server.seen[0].headers["authorization"]) == ("mine", "Bearer local-key")


def test_errors_list_what_is_served(
    write: Write, http_server: HttpServer, grpc_server: GrpcServer, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("default", models=["a", "b"], http=http_server.address, grpc=grpc_server.address)
    code, _, err = run(capsys, "predict", picture, "what?")
    assert (code, err) == (1, "error: model: got none, expected a, b; name one (--model)\n")
    words = "Model not found: c"
    for server, more in ((http_server, []), (grpc_server, ["--grpc"])):
        server.reply = Reply(words.encode(), status=404, code=grpc.StatusCode.INTERNAL, details=words)
        code, _, err = run(capsys, "predict", picture, "what?", "--model", "c", *more)
        assert code == 1
        assert "model: got an unknown model 'c', expected one that is served here: a, b" in err


def test_a_replay_asks_the_records_model_where_it_is_served(write: Write) -> None:
    assert local.choose_model((), "of-record") == "of-record"
    assert local.choose_model(("x", "of-record"), "of-record") == "of-record"
    # A YAML whose file and `handler.name` differ: requests go by the file's name, records by the other.
    assert local.choose_model(("of-yaml",), "of-record") == "of-yaml"
    assert local.choose_model(()) == "llava-shapes"


def test_addresses() -> None:
    assert split_url("http://a:1/") == ("http://a:1", None)
    assert split_url("https://a/proxy/predictions/m") == ("https://a/proxy", "m")
    assert split_url("http://a:1/predictions/") == ("http://a:1", None)
    assert place("http://localhost:7") == place("127.0.0.1:7") == place("http://[::1]:7/predictions/x")
    assert place("https://a") == ("a", 443)
    with pytest.raises(ValueError, match="beside"):
        Client.http("http://a:1/predictions/m", model="n")


def test_whereabouts_of_what_was_written_down() -> None:
    here = Machine("one", "boot-2")
    assert whereabouts(Machine("one", "boot-2"), here) == "here"
    assert whereabouts(Machine("one", "boot-1"), here) == "ended"
    assert whereabouts(Machine("two", "boot-2"), here) == "elsewhere"
    assert whereabouts(Machine("", ""), here) == "here"
    assert whereabouts(this_machine()) == "here"
