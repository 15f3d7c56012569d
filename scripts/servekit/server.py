"""Starts one TorchServe in its own folder, waits until its workers answer, and stops it for real.

Flow: `start_server` -> checks -> torchserve (its own process group) -> every worker READY and gRPC bound -> a
`ServerHandle` -> `stop`: SIGTERM to the Java process itself, then the group is killed after a grace time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import psutil

from llava_wire.system.machine import this_machine
from servekit import causes, preflight
from servekit.drain import duty_folder
from servekit.front.settings import FrontSettings
from servekit.java.files import java_options, write_properties
from servekit.java.trimming import trim_own
from servekit.launching import NAMED_KEYS_VARIABLE, launch, scratch_folder
from servekit.named_keys import read_keys_file
from servekit.paths import METRICS_CONFIG, MODEL_STORE, SetupError, run_folder, shown, writing
from servekit.ports import Ports, behind, listening, with_ports
from servekit.state import ServerState, java_running, keep_keys_fresh, only_start, own_state, worker_states
from servekit.tls import Tls
from servekit.watch.keeper import FRONT_MODULE, Keeper
from servekit.watch.watchdog import Watchdog

GRACE_S = 20.0
_BEAT_S = 1.0
"""Often enough to renew a key within its last five seconds."""
DEFAULT_NAME = "default"
_LOAD_FAILED = ("Backend worker process died", "Load model failed")
_UNPACK_FAILED = "ModelServer - Failed to load model: "


class ServerHandle:
    """A running server; as a context manager it stops at the end."""

    def __init__(self, state: ServerState, launcher: subprocess.Popen[bytes]) -> None:
        self.state = state
        self.launcher = launcher
        self.keeper: Keeper | None = None

    def __enter__(self) -> ServerHandle:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends Java, the workers and the launcher, and removes what the server left."""
        stop_server(self.state)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.launcher.wait(timeout=GRACE_S)

    def wait(self, say: Callable[[str], None] = lambda line: None) -> int:
        """Blocks until the server ends by itself.

        Renews keys just before they expire, keeps logs short, and ends what does not answer any more.
        """
        watchdog = Watchdog(self.state, say)
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.launcher.wait(timeout=_BEAT_S)
            # A stop ends Java first: a front that is gone after that is meant to be.
            if self.keeper is not None and java_running(self.state.pid):
                self.keeper.keep()
                watchdog.look()
            keep_keys_fresh(self.state)
            trim_own(Path(self.state.logs))


def start_server(
    models: Sequence[str],
    *,
    name: str = DEFAULT_NAME,
    ports: str | Ports | None = None,
    store: Path = MODEL_STORE,
    overrides: Mapping[str, str] | None = None,
    tls: Tls | None = None,
    keys: Path | None = None,
    timeout_s: float = 900.0,
    env: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> ServerHandle:
    """Starts a server and returns when every model answers.

    Args:
        models: archives to serve, by name; nothing else in the model store is loaded.
        ports: None for those of config.properties, "auto" for free ones, the first of five, or all five.
        store: the folder with the archives.
        overrides: further keys of config.properties, for this server only.
        tls: certificate and key of the two inference ports; None leaves them plain.
        keys: a file of named keys for the inference ports (`servekit.named_keys`); None for TorchServe's own alone.

    Raises:
        SetupError: with one line that says what to do.
    """
    with only_start(name):
        if tls is not None:
            tls.check()
        if keys is not None:
            read_keys_file(keys)
        plan = preflight.check(
            models, name=name, ports=ports, store=store, env=dict(os.environ if env is None else env)
        )
        progress(f"java {plan.java.version} ({plan.java.origin}); models: {', '.join(models)}")
        inner = behind(plan.ports)
        properties = {
            **with_ports(plan.properties, inner),
            "metrics_config": str(METRICS_CONFIG),
            **(overrides or {}),
        }
        env = {**plan.env, NAMED_KEYS_VARIABLE: "1"}
        with _folders(name) as (folder, scratch):
            properties["vmargs"] = java_options(properties.get("vmargs", ""), scratch)
            config = folder / "config.properties"
            write_properties(config, properties)
            launcher = launch(models, store, folder, scratch, config, env, plan.java.home)
        state = _describe(name, models, folder, scratch, plan.ports, launcher.pid, tls)
        handle = ServerHandle(state, launcher)
        try:
            with writing(folder):
                state.write()
                settings = FrontSettings.of(
                    plan.ports,
                    inner,
                    models=tuple(models),
                    keys=keys,
                    tls=tls,
                    key_file=state.key_file,
                    duty=duty_folder(name),
                    properties=properties,
                    workers=plan.workers,
                )
                handle.keeper = Keeper(settings, state)
                handle.state = _wait_ready(handle, [plan.ports, inner], timeout_s, progress)
        except BaseException:
            handle.stop()
            raise
        return handle


def stop_server(state: ServerState, grace_s: float = GRACE_S) -> bool:
    """Stops the server that `state` describes; True when one was running.

    `torchserve --foreground` passes no signal on, so the Java process is addressed itself.
    """
    # After a restart of the machine the number may be another server's.
    pid = (state.pid or _java_pid(Path(state.scratch))) if state.whereabouts() == "here" else 0
    was_running = java_running(pid) or state.alive()
    if java_running(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        _until(lambda: not java_running(pid), grace_s)
    _end_rest(state, grace_s=3.0)
    shutil.rmtree(state.scratch, ignore_errors=True)
    # Not those of a later server of this name; one whose state could not be written down has keys all the same.
    if state.is_written_down() or not state.file.exists():
        Path(state.key_file).unlink(missing_ok=True)
        state.file.unlink(missing_ok=True)
    return was_running


@contextlib.contextmanager
def _folders(name: str) -> Iterator[tuple[Path, Path]]:
    """The run folder, without what a dead server left, and a scratch folder; neither outlives a failure."""
    old = own_state(name)
    if old is not None:
        stop_server(old)
    scratch = scratch_folder()
    try:
        with writing(run_folder(name)):
            yield _fresh_folder(name), scratch
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(run_folder(name), ignore_errors=True)
        raise


def _fresh_folder(name: str) -> Path:
    folder = run_folder(name)
    if folder.exists():
        shutil.rmtree(folder)
    folder.parent.mkdir(exist_ok=True)
    folder.mkdir(mode=0o700)
    (folder / "logs").mkdir()
    duty_folder(name).mkdir()
    return folder


def _describe(
    name: str,
    models: Sequence[str],
    folder: Path,
    scratch: Path,
    ports: Ports,
    launcher_pid: int,
    tls: Tls | None,
) -> ServerState:
    return ServerState(
        name=name,
        status="starting",
        models=tuple(models),
        http=f"{'https' if tls else 'http'}://{ports.host}:{ports.http}",
        management=f"http://{ports.host}:{ports.management}",
        metrics=f"http://{ports.host}:{ports.metrics}",
        grpc=f"{ports.host}:{ports.grpc}",
        key_file=str(folder / "key_file.json"),
        logs=str(folder / "logs"),
        scratch=str(scratch),
        pid=0,
        launcher_pid=launcher_pid,
        certificate=str(tls.certificate.resolve()) if tls else "",
        **this_machine()._asdict(),
    )


def _wait_ready(
    handle: ServerHandle, ports: Sequence[Ports], timeout_s: float, progress: Callable[[str], None]
) -> ServerState:
    """Waits for READY workers and the gRPC ports: ping answers long before, and also while a model never loads."""
    state, logs = handle.state, Path(handle.state.logs)
    begin = time.monotonic()
    last_said = begin
    waiting = set(state.models)
    while time.monotonic() - begin < timeout_s:
        if state.pid == 0 and (pid := _java_pid(Path(state.scratch))):
            state = handle.state = state.with_pid(pid)
            state.write()
        if handle.launcher.poll() is not None or (state.pid and not java_running(state.pid)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                handle.launcher.wait(timeout=3.0)
            cause = causes.ending(handle.launcher.returncode, logs)
            raise SetupError(f"torchserve: ended while starting ({cause}); see {shown(logs)}")
        if handle.keeper is not None and (ended := handle.keeper.ending()) is not None:
            raise SetupError(f"front: ended while starting ({ended}); see {shown(logs / 'front.log')}")
        words = causes.logged(logs)
        if _UNPACK_FAILED in words:
            raise SetupError(
                f"archive: got one that TorchServe cannot unpack ({causes.cause(logs)}), expected a whole one, "
                f"and room in {Path(state.scratch).parent} (TMPDIR names another place); see {shown(logs)}"
            )
        if any(sign in words for sign in _LOAD_FAILED):
            _until(lambda: causes.exceptions(logs) != [], 3.0)  # the traceback is still being written
            raise SetupError(f"worker: died while loading ({causes.cause(logs)}); see {shown(logs)}")
        waiting -= {model for model in waiting if _ready(state, model)}
        if not waiting and all(listening(one.host, one.grpc) for one in ports):
            keep_keys_fresh(state)
            ready = dataclasses.replace(state, status="ready")
            ready.write()
            progress(f"ready in {time.monotonic() - begin:.1f} s")
            return ready
        if time.monotonic() - last_said > 5:
            last_said = time.monotonic()
            progress(f"loading {', '.join(sorted(waiting)) or 'gRPC'} ({last_said - begin:.0f} s)")
        time.sleep(0.2)
    raise SetupError(f"start: got no ready worker in {timeout_s:.0f} s; see {shown(logs)}")


def _ready(state: ServerState, model: str) -> bool:
    workers = worker_states(state, model)
    return bool(workers) and all(worker.get("status") == "READY" for worker in workers)


def _java_pid(scratch: Path) -> int:
    """The pid that TorchServe wrote into its temporary folder; 0 before that."""
    try:
        return int((scratch / ".model_server.pid").read_text())
    except (OSError, ValueError):
        return 0


def _end_rest(state: ServerState, grace_s: float) -> None:
    """Workers end by themselves when Java is gone, the front is told to; what remains of this server is killed."""
    for process in _processes(state):
        with contextlib.suppress(psutil.Error):
            if FRONT_MODULE in process.cmdline():
                process.terminate()
    _, remaining = psutil.wait_procs(list(_processes(state)), timeout=grace_s)
    for process in remaining:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _processes(state: ServerState) -> Iterator[psutil.Process]:
    """Live processes of this server: launcher, Java and workers all carry a path of its own in their command line."""
    marks = (state.scratch, str(run_folder(state.name) / "config.properties"))
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and any(m in " ".join(process.cmdline()) for m in marks):
                yield process


def _until(done: Callable[[], bool], timeout_s: float) -> bool:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if done():
            return True
        time.sleep(0.1)
    return done()
