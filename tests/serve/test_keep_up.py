"""A server that runs for long keeps its keys fresh, and is started again when it died."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from llava_viewer.client import Client
from servekit.paths import ROOT, run_folder
from servekit.state import read_keys, read_state
from support.starting import NAME, SERVE, gone, started_in_the_background

pytestmark = [pytest.mark.serve, pytest.mark.usefixtures("nothing_left")]


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
    state = started_in_the_background()
    with Client.http(state.http, token=Path(state.key_file), retry_s=120) as client:
        first = client.predict(picture, "How many?").answer
        os.kill(state.pid, signal.SIGKILL)
        assert client.predict(picture, "How many?").answer == first
    again = read_state(NAME)
    assert again is not None
    assert (again.http, again.pid != state.pid) == (state.http, True)
    shutil.rmtree(run_folder(f"{NAME}-crash"))


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
        end = time.monotonic() + 120
        while ((again := read_state(NAME)) is None or again.status != "ready") and time.monotonic() < end:
            time.sleep(0.1)
        assert again is not None
        assert (again.http, again.grpc, again.pid != state.pid) == (state.http, state.grpc, True)
        assert (run_folder(f"{NAME}-crash") / "ts_log.log").exists()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    shutil.rmtree(run_folder(f"{NAME}-crash"))
    assert gone(again)
