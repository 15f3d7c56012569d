"""What a running server writes down for its clients: `.run/<name>/server.json`, and the keys beside it.

Flow: a started server -> `ServerState` -> server.json -> clients, `make token`, `make ping`, `make stop`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from llava_wire.system import running
from llava_wire.system.machine import Machine, Whereabouts, this_machine, whereabouts
from llava_wire.system.replacing import replacing
from servekit.paths import SetupError, run_folder, shown

JAVA_CLASS = "org.pytorch.serve.ModelServer"
_PLACE = re.compile(r"[^\s/]+:[0-9]{1,5}")
_URL = re.compile(r"https?://[^\s/]+")


@dataclass(frozen=True)
class ServerState:
    """One server: its addresses, key file and processes.

    Args:
        status: "starting" or "ready".
        http, management, metrics: addresses such as "http://127.0.0.1:8080"; grpc: "127.0.0.1:7070".
        pid: the Java process (0 until it is known); launcher_pid: the process group that it runs in.
        scratch: TorchServe's private temporary folder, removed at the stop.
        certificate: the PEM file that the inference ports show, empty without TLS.
        host, boot_id: the machine that it runs on, since a checkout may lie on a disk that several machines share.
    """

    name: str
    status: str
    models: tuple[str, ...]
    http: str
    management: str
    metrics: str
    grpc: str
    key_file: str
    logs: str
    scratch: str
    pid: int
    launcher_pid: int
    certificate: str = ""
    host: str = ""
    boot_id: str = ""

    @property
    def file(self) -> Path:
        """Where this is written."""
        return state_file(self.name)

    def write(self) -> None:
        """Writes server.json in one step, so that a reader never sees half of it."""
        with replacing(self.file) as partial:
            partial.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    def is_written_down(self) -> bool:
        """Whether the file is still this server's, neither gone nor that of a later one of the same name."""
        written = read_state(self.name)
        return written is not None and written.scratch == self.scratch

    def whereabouts(self) -> Whereabouts:
        """Whether it is one of this machine's."""
        return whereabouts(Machine(self.host, self.boot_id))

    def alive(self) -> bool:
        """Whether its Java process, or the process that starts it, is running on this machine."""
        if self.whereabouts() != "here":
            return False
        return java_running(self.pid) or (self.pid == 0 and _runs(self.launcher_pid, "ts.model_server"))

    def with_pid(self, pid: int) -> ServerState:
        """The same with the Java process known."""
        return replace(self, pid=pid)


def state_file(name: str) -> Path:
    """The server.json of a server."""
    return running.state_file(run_folder(name))


def read_state(name: str) -> ServerState | None:
    """What is written down, or None. The server need not be alive, nor on this machine."""
    try:
        plain = json.loads(state_file(name).read_text(encoding="utf-8"))
        known = {field.name: str(field.type) for field in fields(ServerState)}
        state = ServerState(**{name: value for name, value in plain.items() if name in known})
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return None
    if not all(_fits(getattr(state, name), kind) for name, kind in known.items()):
        return None
    web = (state.http, state.management, state.metrics)
    if not all(_URL.fullmatch(url) for url in web) or not _PLACE.fullmatch(state.grpc):
        return None
    return replace(state, models=tuple(state.models))


def _fits(value: object, kind: str) -> bool:
    """Whether what JSON holds is what the field of a `ServerState` takes."""
    if kind == "int":
        return type(value) is int and 0 <= value < 1 << 31
    if kind == "str":
        return isinstance(value, str)
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def own_state(name: str) -> ServerState | None:
    """As `read_state`, and `SetupError` for a server of another machine: its processes cannot be seen from here."""
    state = read_state(name)
    if state is not None and state.whereabouts() == "elsewhere":
        raise SetupError(
            f"server {name!r}: got one of the machine {state.host!r}, expected one of this machine "
            f"({this_machine().host!r}); use it or stop it there (make stop NAME={name}), start another "
            f"(make serve NAME=other), or when that machine is gone: rm -r {shown(run_folder(name))}"
        )
    return state


@contextlib.contextmanager
def only_start(name: str) -> Iterator[None]:
    """Holds a name while its server starts: of two starts at once each would clear the other's server away."""
    path = run_folder(name).with_name(f"{name}.lock")
    path.parent.mkdir(exist_ok=True)
    with open(path, "a", opener=_own) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A start that has just ended took the file away; a lock on what is no file any more keeps nobody out.
            held = os.path.samestat(os.fstat(lock.fileno()), path.stat())
        except OSError:
            held = False
        if not held:
            raise SetupError(
                f"server {name!r}: got another start of it under way, expected one of each name; "
                "wait for that one, or name another: make serve NAME=other PORT=auto"
            )
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _own(path: str, flags: int) -> int:
    """Opens a lock, and no link that somebody planted under its name."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def require_running(name: str) -> ServerState:
    """The state of a live server of this machine."""
    state = own_state(name)
    if state is None or not state.alive():
        others = [path.parent.name for path in running.state_files() if path.parent.name != name]
        hint = f"run: make serve, or name one that was started (NAME={others[0]})" if others else "run: make serve"
        raise SetupError(f"server {name!r}: got none running, expected a started one; {hint}")
    return state


def java_running(pid: int) -> bool:
    """Whether this pid is a live TorchServe and not a later process that got its number."""
    return _runs(pid, JAVA_CLASS)


def _runs(pid: int, argument: str) -> bool:
    try:
        process = psutil.Process(pid) if pid else None
        return process is not None and process.status() != psutil.STATUS_ZOMBIE and argument in process.cmdline()
    except psutil.Error:
        return False


def read_keys(state: ServerState) -> dict[str, dict[str, str]]:
    """The key file, read afresh: "management", "inference" and "API", each with "key" and "expiration time"."""
    try:
        content = json.loads(Path(state.key_file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SetupError(
            f"keys: got no readable {shown(Path(state.key_file))}, expected a key file; restart it"
        ) from error
    return content if isinstance(content, dict) else {}


def current_token(state: ServerState, kind: str = "inference") -> str:
    """The key of this kind; an expired one is renewed first (the old one dies at once)."""
    keys = read_keys(state)
    expires = keys.get(kind, {}).get("expiration time", "")
    if expires and _seconds_left(expires) < 5:
        call(state, f"/token?type={kind}", keys["API"]["key"])
        keys = read_keys(state)
    if kind not in keys:
        raise SetupError(f"keys: got no {kind} key in {shown(Path(state.key_file))}; restart the server")
    return keys[kind]["key"]


def keep_keys_fresh(state: ServerState) -> None:
    """Renews the keys that are about to expire; a server that does not answer now is not this function's to mend."""
    with contextlib.suppress(OSError, ValueError, KeyError, SetupError):
        for kind in ("inference", "management"):
            current_token(state, kind)


def call(state: ServerState, path: str, key: str, timeout_s: float = 10) -> Any:
    """One GET on the management port, decoded JSON."""
    request = urllib.request.Request(state.management + path, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        # A renewal answers with a line break and nothing else.
        return json.loads(answer.read().strip() or b"null")


def worker_states(state: ServerState, model: str) -> list[dict[str, Any]]:
    """The workers of a model as the management API reports them; empty while it does not answer."""
    try:
        described = call(state, f"/models/{model}", current_token(state, "management"))
        return list(described[0]["workers"])
    except (OSError, ValueError, KeyError, IndexError, TypeError, urllib.error.URLError, SetupError):
        return []


def _seconds_left(expires: str) -> float:
    try:
        moment = datetime.fromisoformat(expires.replace("Z", "+00:00"))
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp() - time.time()
