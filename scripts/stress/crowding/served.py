"""A server as `make serve` starts it, with all that watches over it, that is there again whenever it is needed.

Flow: `serve.py` with its defaults -> `Served.ensure` -> a state to ask.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from llava_viewer.client import Client, RequestError
from servekit.paths import ROOT, SetupError, run_folder
from servekit.state import ServerState, read_state

START_S = 180.0
_STOP_S = 60.0


class Served:
    """One server of a name; as a context manager it is stopped at the end, and its folders are removed.

    Args:
        name: of its run folder.
        model: what it serves.
        descriptors: how many files a process of it may have open; None for what this process may.
    """

    def __init__(self, name: str, model: str, descriptors: int | None = None) -> None:
        self.name, self._model, self._descriptors = name, model, descriptors
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Served:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
        for folder in (self.name, f"{self.name}-crash"):
            shutil.rmtree(run_folder(folder), ignore_errors=True)

    @property
    def pid(self) -> int:
        """That of `serve.py`."""
        return self._process.pid if self._process else 0

    def ensure(self, patience_s: float = START_S) -> ServerState:
        """The state of a server that answers; one that does not come back in time is ended and started anew.

        Raises:
            SetupError: it does not start.
        """
        state = self.answering(patience_s) if self._process is not None and self._process.poll() is None else None
        if state is not None:
            return state
        self.stop()
        command = [sys.executable, str(ROOT / "scripts" / "serve.py"), self._model, "--name", self.name]
        command += ["--ports", "auto", "--no-build"]
        if self._descriptors is not None:
            command = ["sh", "-c", f'ulimit -n {self._descriptors}; exec "$@"', "sh", *command]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        state = self.answering(START_S)
        if state is None:
            raise SetupError(
                f"server {self.name!r}: got no answer in {START_S:g} s, expected one; see .run/{self.name}"
            )
        return state

    def answering(self, patience_s: float) -> ServerState | None:
        """The state once the model answers over both transports; None when it does not in time."""
        end = time.monotonic() + patience_s
        while time.monotonic() < end and self._process is not None and self._process.poll() is None:
            state = read_state(self.name)
            if state is not None and state.status == "ready" and state.alive() and _answers(state):
                return state
            time.sleep(0.3)
        return None

    def stop(self) -> None:
        """Stops it, as a service manager would; what does not end is killed."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Whatever ended before it could clear up leaves the rest to this.
        command = [sys.executable, str(ROOT / "scripts" / "serve.py"), "--stop", "--grace", "0", "--name", self.name]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def _answers(state: ServerState) -> bool:
    key_file, [model] = Path(state.key_file), state.models
    with (
        Client.http(state.http, model=model, token=key_file) as http,
        Client.grpc(state.grpc, model=model, token=key_file) as grpc,
    ):
        try:
            return http.ready() and grpc.ready()
        except RequestError:
            return False
