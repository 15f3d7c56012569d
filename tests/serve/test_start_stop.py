"""The command `serve.py` as a user runs it: side by side, stopped for real, and clear when it cannot start."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from servekit.drain import duty_folder, waiting_requests
from servekit.paths import ROOT, run_folder
from servekit.state import ServerState, read_keys, read_state

from llava_viewer.client import Client
from support.asking import Asker
from support.signals import usual_signals

pytestmark = pytest.mark.serve
NAME = f"test-cli-{os.getpid()}"
SERVE = [sys.executable, str(ROOT / "scripts" / "serve.py")]
LONG = {"max_new_tokens": 256, "temperature": 100.0, "seed": 4}
LONGER = {**LONG, "num_return_sequences": 8}


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever a test did, its server is gone afterwards."""
    yield
    subprocess.run([*SERVE, "--stop", "--name", NAME], check=False, capture_output=True, timeout=120)
    shutil.rmtree(run_folder(NAME), ignore_errors=True)


def _started_in_the_background(*more: str) -> ServerState:
    command = [*SERVE, "llava-shapes", "--no-build", "--background", "--ports", "auto", "--name", NAME, *more]
    subprocess.run(command, capture_output=True, timeout=300, check=True)
    state = read_state(NAME)
    assert state is not None
    return state


def _until_busy() -> None:
    while not any(path.suffix == ".busy" for path in duty_folder(NAME).iterdir()):
        time.sleep(0.01)


def _processes(state: ServerState) -> list[list[str]]:
    """Command lines that belong to this server: Java, the launcher, workers."""
    marks = (state.scratch, str(run_folder(state.name)))
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(mark in line for mark in marks):
            found.append(process.info["cmdline"])
    return found


def _gone(state: ServerState) -> bool:
    """No process, no scratch folder, no keys and no server.json remain."""
    end = time.monotonic() + 10
    while _processes(state) and time.monotonic() < end:
        time.sleep(0.2)
    left = [Path(state.scratch), Path(state.key_file), state.file]
    return not _processes(state) and not any(path.exists() for path in left)


def test_background_beside_another_server_and_stop(asker: Asker, picture: bytes) -> None:
    command = [*SERVE, "llava-shapes", "--background", "--ports", "auto", "--name", NAME]
    started = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert started.returncode == 0, started.stderr
    state = read_state(NAME)
    assert state is not None
    assert state.status == "ready"
    assert state.http in started.stdout
    assert state.grpc in started.stdout
    assert len(_processes(state)) == 3
    second = Asker(state)
    assert second.form(picture, "How many?").lasting() == asker.form(picture, "How many?").lasting()
    assert second.workers() != asker.workers()
    second.close()
    again = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 1
    assert f"server {NAME!r}: got one running already" in again.stderr
    stopped = subprocess.run([*SERVE, "--stop", "--name", NAME], capture_output=True, text=True, timeout=60, check=True)
    assert "stopped" in stopped.stderr
    assert _gone(state)
    assert asker.workers()[0][0] == "READY"


SHORT_KEYS = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import serve
from servekit.cli import run
from servekit.server import start_server
serve.start_server = lambda *models, **how: start_server(*models, overrides={"token_expiration_min": "0.3"}, **how)
run(serve.main)
"""


def test_a_server_in_the_background_keeps_its_keys_fresh(built_archive: Path, picture: bytes) -> None:
    command = [sys.executable, "-c", SHORT_KEYS, str(ROOT / "scripts"), "llava-shapes", "--no-build", "--background"]
    subprocess.run([*command, "--ports", "auto", "--name", NAME], capture_output=True, timeout=300, check=True)
    state = read_state(NAME)
    assert state is not None
    first = {kind: read_keys(state)[kind]["key"] for kind in ("inference", "management")}
    with Client.local(NAME) as client:
        end = time.monotonic() + 120  # a key lives for 18 seconds
        while any(read_keys(state)[kind]["key"] == key for kind, key in first.items()) and time.monotonic() < end:
            assert client.predict(picture, "How many?").answer
            time.sleep(1)
        assert client.predict(picture, "How many?").answer
    for kind, address in (("inference", f"{state.http}/ping"), ("management", f"{state.management}/models")):
        key = read_keys(state)[kind]["key"]
        assert key != first[kind]
        assert httpx.get(address, headers={"Authorization": f"Bearer {key}"}).status_code == 200


@pytest.mark.long
def test_a_server_in_the_background_is_started_again(built_archive: Path, picture: bytes) -> None:
    state = _started_in_the_background()
    with Client.http(state.http, token=Path(state.key_file), retry_s=120) as client:
        first = client.predict(picture, "How many?").answer
        os.kill(state.pid, signal.SIGKILL)
        assert client.predict(picture, "How many?").answer == first
    again = read_state(NAME)
    assert again is not None
    assert (again.http, again.pid != state.pid) == (state.http, True)
    shutil.rmtree(run_folder(f"{NAME}-crash"))


def test_a_start_in_the_background_that_fails_or_is_interrupted_says_so(built_archive: Path) -> None:
    command = [*SERVE, "llava-shapes", "--no-build", "--background", "--ports", "auto", "--name", NAME]
    failed = subprocess.run([*command, "--timeout", "0.1"], capture_output=True, text=True, timeout=120, check=False)
    assert (failed.returncode, "no ready worker in 0 s" in failed.stderr) == (1, True)
    with usual_signals():
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with process:
        while (state := read_state(NAME)) is None or state.pid == 0:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert _gone(state)


def test_a_start_whose_addresses_nobody_reads_leaves_nothing(built_archive: Path) -> None:
    command = [*SERVE, "llava-shapes", "--no-build", "--ports", "auto", "--name", NAME]
    with Path("/dev/full").open("w") as full:
        started = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    assert started.returncode != 0
    assert "ready in" in started.stderr
    assert read_state(NAME) is None
    marks = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not any(str(run_folder(NAME)) in mark for mark in marks)


def test_of_two_starts_at_once_one_wins(built_archive: Path, picture: bytes) -> None:
    command = [*SERVE, "llava-shapes", "--no-build", "--background", "--ports", "auto", "--name", NAME]
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(
            lambda _: subprocess.run(command, capture_output=True, text=True, timeout=300, check=False), range(2)
        )
    won, lost = sorted((one, other), key=lambda start: start.returncode)
    assert (won.returncode, lost.returncode) == (0, 1), (one.stderr, other.stderr)
    assert f"server {NAME!r}: got another start of it under way" in lost.stderr
    state = read_state(NAME)
    assert state is not None
    asker = Asker(state)
    assert asker.form(picture, "How many?").status == 200
    asker.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_during_the_start_leaves_nothing(built_archive: Path, number: signal.Signals) -> None:
    command = [*SERVE, "llava-shapes", "--no-build", "--ports", "auto", "--name", NAME]
    with usual_signals():
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with process:
        try:
            end = time.monotonic() + 60
            while ((state := read_state(NAME)) is None or state.pid == 0) and time.monotonic() < end:
                time.sleep(0.1)
            assert state is not None
            assert state.status == "starting"
            process.send_signal(number)
            assert process.wait(timeout=60) != 0
        except BaseException:
            process.terminate()
            raise
    assert _gone(state)


def test_sigterm_finishes_what_was_accepted_and_refuses_the_rest(
    built_archive: Path, picture: bytes, tmp_path: Path
) -> None:
    command = [*SERVE, "llava-shapes", "--no-build", "--ports", "auto", "--name", NAME]
    env = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process,
    ):
        manager.bind(env["NOTIFY_SOCKET"])
        manager.settimeout(60)
        assert process.stdout is not None
        assert "predictions" in process.stdout.readline()
        assert manager.recv(100).startswith(b"READY=1")
        state = read_state(NAME)
        assert state is not None
        asker = Asker(state)
        with ThreadPoolExecutor(24) as pool:
            # One request holds the worker while the others wait: more than a batch of them.
            first = pool.submit(asker.form, picture, "Hello?", LONGER)
            _until_busy()
            accepted = [pool.submit((asker.form, asker.grpc)[n % 2], picture, "Hello?", LONG) for n in range(11)]
            while waiting_requests(state, "llava-shapes") < 11:
                assert not first.done()
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            while not (duty_folder(NAME) / "drain.json").exists():
                time.sleep(0.01)
            late = [pool.submit((asker.form, asker.grpc)[n % 2], picture, "How many?") for n in range(2)]
            answers = [future.result() for future in accepted]
            assert [len(answer.record().tokens) for answer in answers] == [256] * 11
            assert len(first.result().record().alternatives) == 7
            for future in late:
                answer = future.result()
                assert (answer.status, answer.error["code"]) == (503, "unavailable")
        assert process.wait(timeout=60) == 0
        assert manager.recv(100) == b"STOPPING=1"
        assert process.stderr is not None
        assert "finishing what was accepted" in process.stderr.read()
    asker.close()
    assert _gone(state)


def test_a_server_that_died_is_started_again_at_the_same_place(built_archive: Path, picture: bytes) -> None:
    command = [*SERVE, "llava-shapes", "--no-build", "--ports", "auto", "--name", NAME]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert "predictions" in process.stdout.readline()
        state = read_state(NAME)
        assert state is not None
        with Client.http(state.http, token=Path(state.key_file), retry_s=120) as client:
            first = client.predict(picture, "How many?").answer
            os.kill(state.pid, signal.SIGKILL)
            assert client.predict(picture, "How many?").answer == first
        end = time.monotonic() + 60
        while ((again := read_state(NAME)) is None or again.status != "ready") and time.monotonic() < end:
            time.sleep(0.1)
        assert again is not None
        assert (again.http, again.grpc, again.pid != state.pid) == (state.http, state.grpc, True)
        assert (run_folder(f"{NAME}-crash") / "ts_log.log").exists()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    shutil.rmtree(run_folder(f"{NAME}-crash"))
    assert _gone(again)


def test_a_grace_that_is_too_short_ends_all_the_same(built_archive: Path, picture: bytes) -> None:
    state = _started_in_the_background()
    asker = Asker(state)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(asker.form, picture, "Hello?", LONGER) for _ in range(4)]
        _until_busy()
        stopped = subprocess.run(
            [*SERVE, "--stop", "--name", NAME, "--grace", "0.1"], capture_output=True, text=True, timeout=60, check=True
        )
        assert [isinstance(future.exception(), httpx.TransportError) for future in asked] == [True] * 4
    assert "not everything was finished" in stopped.stderr
    asker.close()
    assert _gone(state)


def test_a_lost_key_file_does_not_keep_a_server_from_stopping(built_archive: Path, picture: bytes) -> None:
    state = _started_in_the_background()
    asker = Asker(state)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(asker.form, picture, "Hello?", LONGER)
        _until_busy()
        Path(state.key_file).unlink()
        stopped = subprocess.run(
            [*SERVE, "--stop", "--name", NAME], capture_output=True, text=True, timeout=60, check=False
        )
        assert (stopped.returncode, asked.result().status) == (0, 200), stopped.stderr
    asker.close()
    assert _gone(state)


def test_an_occupied_port(built_archive: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]
        first = max(1024, number - 4)
        command = [*SERVE, "--no-build", "--name", NAME, "--ports", str(first)]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 1
    assert "in use" in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


def test_stop_without_a_server() -> None:
    answer = subprocess.run([*SERVE, "--stop", "--name", NAME], capture_output=True, text=True, timeout=60, check=True)
    assert "none running" in answer.stderr


def test_wrong_arguments_are_code_2() -> None:
    for arguments in (["--background", "--stop"], ["--nonsense"]):
        assert subprocess.run([*SERVE, *arguments], capture_output=True, timeout=60, check=False).returncode == 2
    answer = subprocess.run([*SERVE, "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "example:" in answer.stdout


def test_a_model_that_cannot_load_is_said_at_once(built_archive: Path, tmp_path: Path) -> None:
    """TorchServe itself would try again for five minutes, with ping healthy all the while."""
    import zipfile

    from servekit.paths import Trouble
    from servekit.server import start_server

    broken = tmp_path / "llava-shapes.mar"
    with zipfile.ZipFile(built_archive) as old, zipfile.ZipFile(broken, "w") as new:
        for name in old.namelist():
            if name != "weights/config.json":
                new.writestr(name, old.read(name))
    begin = time.monotonic()
    with pytest.raises(Trouble, match=r"worker: died while loading \(.*SettingsError: weights"):
        start_server(["llava-shapes"], name=NAME, ports="auto", store=tmp_path, timeout_s=200)
    assert time.monotonic() - begin < 120
    assert read_state(NAME) is None
