"""The faults, one function each: what is done to a server, and what is put right afterwards.

Flow: a running server (or one of the fault's own) -> the deed, while `scene.play` watches -> `Row`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import yaml

from llava_viewer.client import Client, RequestError, StreamedToken
from llava_wire.system.inner import BUSY
from servekit.drain import DUTY_FOLDER
from servekit.paths import MODEL_STORE, ROOT, SetupError, archive, run_folder
from servekit.server import start_server
from servekit.state import ServerState, read_state
from stress.drills.console import flooded
from stress.drills.scene import Row, play
from stress.soaking.cases import Case, difference
from stress.soaking.watch import ready_pids

MODEL = "llava-shapes"
_LONG = {"max_new_tokens": 256, "temperature": 100.0, "seed": 4}
_HUNG_TIMEOUT_S = 5


def worker_killed(state: ServerState, case: Case) -> Row:
    """SIGKILL to the worker, as the kernel does when memory runs out."""

    def act() -> str:
        with ThreadPoolExecutor(2) as pool:
            asked = {way: pool.submit(_long_request, state, case, way) for way in ("HTTP", "gRPC")}
            busy = run_folder(state.name) / DUTY_FOLDER
            _await(lambda: any(path.suffix == BUSY for path in busy.iterdir()), 30)
            time.sleep(0.3)
            _kill(ready_pids(state)[0])
            seen = [f"{way} {future.result()}" for way, future in asked.items()]
        return f"the requests that it was working on: {', '.join(seen)}"

    return play("worker killed during a request", state, case, act)


def worker_killed_in_a_stream(state: ServerState, case: Case) -> Row:
    """SIGKILL to the worker while it writes a streamed answer."""

    def act() -> str:
        with Client.http(state.http, model=MODEL, token=Path(state.key_file), retry_s=0) as client:
            parts = client.stream(case.fields["image"], "Hello?", _LONG)
            while not isinstance(next(parts), StreamedToken):
                pass
            _kill(ready_pids(state)[0])
            try:
                count = sum(isinstance(part, StreamedToken) for part in parts)
            except RequestError as error:
                return f"the stream itself: {error.code} ({error.status})"
        return f"the stream itself: {count} more tokens and its record"

    return play("worker killed in a stream", state, case, act)


def worker_hangs(case: Case) -> Row:
    """SIGSTOP to the worker: it holds its request and says nothing; `responseTimeout` is 5 s here."""
    with _variant({"responseTimeout": _HUNG_TIMEOUT_S}) as store, _server(store) as state:
        return play(
            f"worker hangs (responseTimeout {_HUNG_TIMEOUT_S} s)",
            state,
            case,
            lambda: os.kill(ready_pids(state)[0], signal.SIGSTOP),
            settle_s=_HUNG_TIMEOUT_S + 5,
        )


def java_pauses(state: ServerState, case: Case) -> Row:
    """SIGSTOP to Java for five seconds: a machine that swaps, a paused container."""

    def act() -> None:
        os.kill(state.pid, signal.SIGSTOP)
        time.sleep(5)
        os.kill(state.pid, signal.SIGCONT)

    return play("Java pauses for 5 s", state, case, act)


def java_killed(case: Case) -> Row:
    """SIGKILL to Java under `serve.py`, which starts it again at the same addresses with new keys."""
    name = f"drill-java-{os.getpid()}"
    command = [
        sys.executable,
        str(ROOT / "scripts" / "serve.py"),
        MODEL,
        "--ports",
        "auto",
        "--name",
        name,
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            state = _await(lambda: (found := read_state(name)) and found.status == "ready" and found, 120)
            assert isinstance(state, ServerState)
            return play("Java killed", state, case, lambda: _kill(state.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120)
            for folder in (name, f"{name}-crash"):
                shutil.rmtree(run_folder(folder), ignore_errors=True)


def logs_full(state: ServerState, case: Case) -> Row:
    """Not one more byte may be written to any file by Java or its worker: a quota, a full disk."""
    processes = [psutil.Process(state.pid), *psutil.Process(state.pid).children(recursive=True)]
    before = [process.rlimit(psutil.RLIMIT_FSIZE) for process in processes]

    def act() -> str:
        for process in processes:
            process.rlimit(psutil.RLIMIT_FSIZE, (0, before[0][1]))
        size_bytes = _log_bytes(state)
        time.sleep(5)
        grown = _log_bytes(state) - size_bytes
        for process, limits in zip(processes, before, strict=True):
            process.rlimit(psutil.RLIMIT_FSIZE, limits)
        return f"{grown} bytes were logged meanwhile"

    return play("logs at their quota for 5 s", state, case, act)


def logs_gone(state: ServerState, case: Case) -> Row:
    """The log folder is removed under the server."""
    kept = Path(state.logs).with_name("logs-kept")

    def act() -> None:
        Path(state.logs).rename(kept)
        time.sleep(3)
        kept.rename(state.logs)

    return play("log folder gone for 3 s", state, case, act)


def console_flooded(state: ServerState, case: Case) -> Row:
    """A process of this machine makes Java print without end: whatever it prints, its file has one."""

    def act() -> str:
        printed_bytes, kept_bytes = flooded(state)
        return f"Java printed {printed_bytes / 1e6:.1f} MB, of which {kept_bytes / 1e6:.2f} MB were kept"

    return play("Java's console flooded", state, case, act)


def weights_gone(case: Case) -> Row:
    """The weights' folder disappears, the worker dies, and after 15 s the folder is back."""
    with tempfile.TemporaryDirectory(prefix="lgaze-drill-") as folder:
        weights, hidden = Path(folder) / "weights", Path(folder) / "hidden"
        shutil.copytree(MODEL_STORE / MODEL, weights)
        with _variant({}, handler={"model_path": str(weights)}) as store, _server(store) as state:

            def act() -> str:
                weights.rename(hidden)
                _kill(ready_pids(state)[0])
                time.sleep(15)
                hidden.rename(weights)
                return "the folder was away for 15 s"

            return play("weights folder gone, worker killed", state, case, act)


def memory_short(state: ServerState, case: Case) -> Row:
    """The worker's address space may not grow by more than 64 MB: large requests cannot run, small ones can."""
    worker = psutil.Process(ready_pids(state)[0])
    before = worker.rlimit(psutil.RLIMIT_AS)

    def act() -> str:
        worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms + (64 << 20), before[1]))
        large = {"layers": "all", "heads": "all", "reduction": "none", "precision": "float32", **_LONG}
        seen = {}
        with Client.http(state.http, model=MODEL, token=Path(state.key_file), retry_s=0) as client:
            for words, options in (("large", {**large, "num_return_sequences": 8}), ("small", case.options)):
                try:
                    client.predict(case.fields["image"], "Hello?", options, keep_picture=False)
                    seen[words] = "answered"
                except RequestError as error:
                    seen[words] = f"{error.code} ({error.status})"
        if worker.is_running():
            worker.rlimit(psutil.RLIMIT_AS, before)
        return ", ".join(f"a {words} request: {word}" for words, word in seen.items())

    return play("address space at its limit", state, case, act)


def queue_full(case: Case) -> Row:
    """Sixty clients at once where four may wait."""
    with _server(MODEL_STORE, {"job_queue_size": "4"}) as state:

        def act() -> str:
            def one(number: int) -> str:
                make, address = ((Client.http, state.http), (Client.grpc, state.grpc))[number % 2]
                with make(address, token=Path(state.key_file), retry_s=0, timeout_s=60) as client:
                    try:
                        record = client.predict(
                            case.fields["image"], case.fields["prompt"].decode(), case.options, keep_picture=False
                        )
                    except RequestError as error:
                        return f"{error.code} ({error.status})"
                assert case.truth is not None
                return difference(record, case.truth) or "right"

            with ThreadPoolExecutor(60) as pool:
                words = list(pool.map(one, range(60)))
            return ", ".join(f"{words.count(word)} {word}" for word in sorted(set(words)))

        return play("60 clients, queue of 4", state, case, act)


SHARED: tuple[Callable[[ServerState, Case], Row], ...] = (
    worker_killed, worker_killed_in_a_stream, java_pauses, logs_full, logs_gone, console_flooded, memory_short,
)  # fmt: skip
OWN: tuple[Callable[[Case], Row], ...] = (worker_hangs, weights_gone, java_killed, queue_full)


@contextlib.contextmanager
def _server(store: Path, overrides: dict[str, str] | None = None) -> Iterator[ServerState]:
    name = f"drill-{os.getpid()}"
    with start_server([MODEL], name=name, ports="auto", store=store, overrides=overrides) as server:
        yield server.state
    shutil.rmtree(run_folder(name), ignore_errors=True)


@contextlib.contextmanager
def _variant(changes: dict[str, object], handler: dict[str, object] | None = None) -> Iterator[Path]:
    """A store whose archive has other settings."""
    with tempfile.TemporaryDirectory(prefix="lgaze-drill-") as folder:
        store = Path(folder)
        with zipfile.ZipFile(archive(MODEL)) as old, zipfile.ZipFile(store / f"{MODEL}.mar", "w") as new:
            named = json.loads(old.read("MAR-INF/MANIFEST.json"))["model"]["configFile"]
            for name in old.namelist():
                data = old.read(name)
                if name == named:
                    content = yaml.safe_load(data)
                    content |= changes
                    content["handler"] |= handler or {}
                    data = yaml.safe_dump(content).encode()
                new.writestr(name, data)
        yield store


def _long_request(state: ServerState, case: Case, way: str) -> str:
    make, address = (Client.grpc, state.grpc) if way == "gRPC" else (Client.http, state.http)
    options = {**_LONG, "num_return_sequences": 8}
    with make(address, token=Path(state.key_file), retry_s=0) as client:
        try:
            client.predict(case.fields["image"], "Hello?", options, keep_picture=False)
        except RequestError as error:
            return f"{error.code} ({error.status})"
    return "answered"


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _log_bytes(state: ServerState) -> int:
    return sum(path.stat().st_size for path in Path(state.logs).iterdir())


def _await(found: Callable[[], object], timeout_s: float) -> object:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        result = found()
        if result:
            return result
        time.sleep(0.2)
    raise SetupError(f"drill: got nothing in {timeout_s:g} s, expected a running server; see .run")
