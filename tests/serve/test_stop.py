"""Stopping a server finishes what was accepted, for as long as it may, and leaves nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import pytest

from servekit.drain import duty_folder, waiting_requests
from servekit.state import read_state
from support.asking import Asker
from support.starting import NAME, SERVE, gone, started_in_the_background, until_busy

pytestmark = [pytest.mark.serve, pytest.mark.usefixtures("nothing_left")]

LONG = {"max_new_tokens": 256, "temperature": 100.0, "seed": 4}
LONGER = {**LONG, "num_return_sequences": 8}
PATIENT = ["--grace", "300"]
"""Time for what was accepted, on a busy machine too."""


def test_sigterm_finishes_what_was_accepted_and_refuses_the_rest(
    built_archive: Path, picture: bytes, tmp_path: Path
) -> None:
    command = [*SERVE, "llava-shapes", "--no-build", "--ports", "auto", "--name", NAME, *PATIENT]
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
            until_busy()
            accepted = [pool.submit((asker.form, asker.grpc)[n % 2], picture, "Hello?", LONG) for n in range(11)]
            while waiting_requests(state, "llava-shapes") < 11:
                assert not first.done()
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            while not (duty_folder(NAME) / "drain.json").exists():
                time.sleep(0.01)
            late, late_call = (pool.submit(ask, picture, "How many?") for ask in (asker.form, asker.grpc))
            answers = [future.result() for future in accepted]
            assert [len(answer.record().tokens) for answer in answers] == [256] * 11
            assert len(first.result().record().alternatives) == 7
            assert (late.result().status, late.result().error["code"]) == (503, "unavailable")
            refused = late_call.exception()
            assert isinstance(refused, grpc.RpcError)
            assert refused.code() is grpc.StatusCode.UNAVAILABLE
        assert process.wait(timeout=400) == 0
        assert manager.recv(100) == b"STOPPING=1"
        assert process.stderr is not None
        assert "finishing what was accepted" in process.stderr.read()
    asker.close()
    assert gone(state)


@pytest.mark.long
def test_a_grace_that_is_too_short_ends_all_the_same(built_archive: Path, picture: bytes) -> None:
    state = started_in_the_background()
    asker = Asker(state)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(asker.form, picture, "Hello?", LONGER) for _ in range(4)]
        until_busy()
        stopped = subprocess.run(
            [*SERVE, "--stop", "--name", NAME, "--grace", "0.1"],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        # The front says so, when it is not itself gone by then.
        for future in asked:
            lost = future.exception()
            assert isinstance(lost, httpx.TransportError) if lost else future.result().status == 503
    assert "not everything was finished" in stopped.stderr
    asker.close()
    assert gone(state)


@pytest.mark.long
def test_a_lost_key_file_does_not_keep_a_server_from_stopping(built_archive: Path, picture: bytes) -> None:
    state = started_in_the_background()
    asker = Asker(state)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(asker.form, picture, "Hello?", LONGER)
        until_busy()
        Path(state.key_file).unlink()
        stopped = subprocess.run(
            [*SERVE, "--stop", "--name", NAME, *PATIENT], capture_output=True, text=True, timeout=400, check=False
        )
        assert (stopped.returncode, asked.result().status) == (0, 200), stopped.stderr
    asker.close()
    assert gone(state)


def test_stop_without_a_server() -> None:
    answer = subprocess.run([*SERVE, "--stop", "--name", NAME], capture_output=True, text=True, timeout=120, check=True)
    assert "none running" in answer.stderr
