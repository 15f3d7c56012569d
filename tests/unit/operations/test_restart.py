"""What `serve.py` does when TorchServe ends by itself: again, or an end with its cause; the server is a stand-in."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import serve

from servekit import causes
from servekit.paths import SetupError
from servekit.ports import Ports
from servekit.watch import notify


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[str]]]:
    """Runs `serve.py` with servers that end as told: exit codes, None for a stop asked for, or a `SetupError`."""
    monkeypatch.setattr("servekit.paths.run_root", lambda: tmp_path)
    monkeypatch.setattr(serve, "resolve_ports", lambda *_: Ports("127.0.0.1", 1, 2, 3, 4, 5))
    monkeypatch.setattr(serve, "describe", lambda state: "addresses")
    monkeypatch.setattr(serve.time, "sleep", lambda seconds: said.append(f"slept {seconds:g}") if seconds else None)
    said: list[str] = []

    def run(ends: list[int | SetupError | None], *arguments: str) -> tuple[int, list[str]]:
        coming = iter(ends)
        logs = tmp_path / "default" / "logs"

        def start(*_: Any, **__: Any) -> Any:
            logs.mkdir(parents=True, exist_ok=True)
            end = next(coming)
            (logs / "console.log").write_text(f"console of {end}\n")
            if isinstance(end, SetupError):
                raise end
            return SimpleNamespace(state=SimpleNamespace(logs=str(logs)), end=end, stop=lambda: None)

        monkeypatch.setattr(serve, "start_server", start)
        monkeypatch.setattr(serve, "_watch", lambda handle, arguments: handle.end)
        monkeypatch.setattr(serve, "say", said.append)
        monkeypatch.setattr("sys.argv", ["serve.py", "--no-build", *arguments])
        given = serve._arguments()
        assert isinstance(given, argparse.Namespace)
        return serve._serve(given, None), said

    return run


def test_it_is_started_again_without_being_asked(play: Callable[..., tuple[int, list[str]]], tmp_path: Path) -> None:
    code, said = play([137, 3, None])
    again = [line for line in said if "starting it again" in line]
    assert (code, len(again)) == (0, 2)
    assert again[0].startswith("torchserve: ended by itself with code 137 (Java was killed (SIGKILL)")
    assert "see .run" not in again[0]
    assert f"see {tmp_path / 'default-crash'}" in again[0]
    assert (tmp_path / "default-crash" / "console.log").read_text() == "console of 3\n"


def test_a_crash_loop_ends_with_its_cause(play: Callable[..., tuple[int, list[str]]]) -> None:
    with pytest.raises(SetupError, match=r"ended by itself with code 134 \(Java crashed \(SIGABRT\)"):
        play([137, 137, 137, 137, 137, 134, None])


def test_without_restart_the_first_end_is_the_last(play: Callable[..., tuple[int, list[str]]]) -> None:
    with pytest.raises(SetupError, match=r"code 1 \(exit code 1; last words: console of 1\)"):
        play([1, None], "--no-restart")


def test_a_first_start_that_fails_is_said_at_once_and_a_later_one_is_tried_again(
    play: Callable[..., tuple[int, list[str]]],
) -> None:
    with pytest.raises(SetupError, match="ports: taken"):
        play([SetupError("ports: taken"), None])


def test_a_later_start_that_fails_is_tried_again_with_growing_pauses(
    play: Callable[..., tuple[int, list[str]]],
) -> None:
    code, said = play([137, SetupError("ports: taken"), SetupError("ports: taken"), None])
    assert (code, [line for line in said if line.startswith("slept")]) == (0, ["slept 8", "slept 16"])
    said.clear()
    with pytest.raises(SetupError, match="ports: taken"):
        play([137, *[SetupError("ports: taken")] * 9])


def test_the_words_of_a_background_server_outlive_starts_that_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servekit.paths.run_root", lambda: tmp_path)
    logs, kept = tmp_path / "default" / "logs", tmp_path / "default-crash"
    for own in ("first crash\n", "", ""):
        logs.mkdir(parents=True)
        if own:
            (logs / "serve.log").write_text(own)
        serve._keep_logs("default")
        with (kept / "serve.log").open("a") as words:
            words.write("again\n")
    assert (kept / "serve.log").read_text() == "first crash\nagain\nagain\nagain\n"
    serve._keep_logs("default")
    assert (kept / "serve.log").exists()


@pytest.mark.parametrize(
    ("code", "console", "log", "expected"),
    [
        (3, "Terminating due to java.lang.OutOfMemoryError: Java heap space\n", "", "out of memory: Java's heap"),
        (0, "", "x - Failed to bind to address: http://127.0.0.1:8080\n", "a port in use: Failed to bind to address"),
        (1, "java.net.BindException: Address already in use\n", "", "a port in use: Address already in use"),
        (137, "", "", "killed (SIGKILL): by somebody, or by the kernel for lack of memory"),
        (143, "", "", "somebody sent Java SIGTERM"),
        (139, "", "", "Java crashed (SIGSEGV); java_crash.log tells where"),
        (-9, "", "", "its first process was killed by SIGKILL"),
        (
            1,
            "a\nno such option: -Xmy\n\n",
            "old: java.lang.Error: survived\n",
            "exit code 1; last words: no such option",
        ),
        (0, "", "", "exit code 0; last words: none"),
        (3, "old\n", "", "exit code 3"),
        (1, "Warning: non-default JVM parameters: -XX:+ExitOnOutOfMemoryError\nx\n", "", "exit code 1; last words: x"),
    ],
)
def test_every_end_has_its_cause(tmp_path: Path, code: int, console: str, log: str, expected: str) -> None:
    (tmp_path / "console.log").write_text(console)
    (tmp_path / "ts_log.log").write_text(log)
    assert expected in causes.ending(code, tmp_path, was_ready=True)


def test_options_that_java_cannot_follow_are_named(tmp_path: Path) -> None:
    words = "Unrecognized VM option 'Nonsense'\nError: Could not create the Java Virtual Machine.\nError: Fatal.\n"
    (tmp_path / "console.log").write_text(words)
    assert causes.ending(1, tmp_path) == "Java's options: Unrecognized VM option 'Nonsense'"


def test_troubles_of_long_ago_are_no_cause(tmp_path: Path) -> None:
    (tmp_path / "ts_log.log").write_text("Failed to bind to address: x\n" + "all is well\n" * 5000)
    assert causes.ending(137, tmp_path, was_ready=True).startswith("Java was killed")


@pytest.mark.parametrize("name", ["file", "abstract"])
def test_a_service_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    address = str(tmp_path / "notify") if name == "file" else f"@lgaze-test-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address if name == "file" else f"\0{address[1:]}")
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify.notify(notify.READY)
        assert manager.recv(100) == b"READY=1\nSTATUS=ready"
    notify.notify(notify.STOPPING)  # nobody there any more
    monkeypatch.setenv("NOTIFY_SOCKET", "vsock:2:1234")
    notify.notify(notify.READY)
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify.notify(notify.READY)
