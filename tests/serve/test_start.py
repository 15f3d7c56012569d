"""The command `serve.py` starts a server beside others, once per name, and is clear when it cannot."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from servekit.paths import SetupError, run_folder
from servekit.server import start_server
from servekit.state import read_state
from support.asking import Asker
from support.signals import usual_signals
from support.starting import NAME, SERVE, gone, processes

pytestmark = [pytest.mark.serve, pytest.mark.usefixtures("nothing_left")]


def test_a_worker_finds_the_archive_and_no_script_of_the_checkout(asker: Asker) -> None:
    worker = psutil.Process(asker.workers()[0][1])
    look = "import importlib.util as u; print([n for n in ('llava_handler', 'servekit', 'bench') if u.find_spec(n)])"
    command = [worker.exe(), "-P", "-c", look]
    done = subprocess.run(command, env=worker.environ(), capture_output=True, text=True, check=True, cwd=worker.cwd())
    assert done.stdout == "['llava_handler']\n", done.stdout + done.stderr


def test_background_beside_another_server_and_stop(asker: Asker, picture: bytes) -> None:
    command = [*SERVE, "llava-shapes", "--background", "--ports", "auto", "--name", NAME]
    started = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert started.returncode == 0, started.stderr
    state = read_state(NAME)
    assert state is not None
    assert state.status == "ready"
    assert state.http in started.stdout
    assert state.grpc in started.stdout
    assert len(processes(state)) == 4  # TorchServe's launcher, Java, the worker, the front
    second = Asker(state)
    assert second.form(picture, "How many?").lasting() == asker.form(picture, "How many?").lasting()
    assert second.workers() != asker.workers()
    second.close()
    again = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 1
    assert f"server {NAME!r}: got one running already" in again.stderr
    stopped = subprocess.run([*SERVE, "--stop", "--name", NAME], capture_output=True, text=True, timeout=60, check=True)
    assert "stopped" in stopped.stderr
    assert gone(state)
    assert asker.workers()[0][0] == "READY"


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
    assert gone(state)


@pytest.mark.long
def test_a_start_whose_addresses_nobody_reads_leaves_nothing(built_archive: Path) -> None:
    command = [*SERVE, "llava-shapes", "--no-build", "--ports", "auto", "--name", NAME]
    with Path("/dev/full").open("w") as full:
        started = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    assert started.returncode != 0
    assert "ready in" in started.stderr
    assert read_state(NAME) is None
    marks = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not any(f"{run_folder(NAME)}/" in mark for mark in marks)


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
    assert gone(state)


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


def test_wrong_arguments_are_code_2() -> None:
    for arguments in (["--background", "--stop"], ["--nonsense"]):
        assert subprocess.run([*SERVE, *arguments], capture_output=True, timeout=60, check=False).returncode == 2
    answer = subprocess.run([*SERVE, "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "example:" in answer.stdout


def test_a_model_that_cannot_load_is_said_at_once(built_archive: Path, tmp_path: Path) -> None:
    """TorchServe itself would try again for five minutes, with ping healthy all the while."""
    broken = tmp_path / "llava-shapes.mar"
    with zipfile.ZipFile(built_archive) as old, zipfile.ZipFile(broken, "w") as new:
        for name in old.namelist():
            if name != "weights/config.json":
                new.writestr(name, old.read(name))
    begin = time.monotonic()
    with pytest.raises(SetupError, match=r"worker: died while loading \(.*SettingsError: weights"):
        start_server(["llava-shapes"], name=NAME, ports="auto", store=tmp_path, timeout_s=200)
    assert time.monotonic() - begin < 120
    assert read_state(NAME) is None
