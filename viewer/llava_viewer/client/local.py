"""Finds the servers that run on this machine, by the file that each of them keeps (docs/operations.md, server.json).

Flow: a name, or LLAVA_GAZE_SERVER, or the checkout's .run -> server.json -> `LocalServer`: addresses, models, key file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava_viewer.client.address import default_model, place
from llava_viewer.client.state_files import read_json
from llava_wire.errors import RequestError
from llava_wire.system.machine import Machine, whereabouts
from llava_wire.system.running import state_file, state_files

VARIABLE = "LLAVA_GAZE_SERVER"
"""Environment variable with a server's name, or with the path of its run folder where that is in another checkout."""
DEFAULT_NAME = "default"
_JAVA_CLASS = b"org.pytorch.serve.ModelServer"


@dataclass(frozen=True)
class LocalServer:
    """A server that takes requests on this machine.

    Args:
        name: of its run folder.
        models: what it serves.
        http, grpc: its addresses, "http://HOST:PORT" and "HOST:PORT".
        key_file: read for every request, because keys are renewed.
        certificate: what the addresses show when they speak TLS, else None.
    """

    name: str
    models: tuple[str, ...]
    http: str
    grpc: str
    key_file: Path
    certificate: Path | None

    def is_at(self, address: str) -> bool:
        """Whether an http address or HOST:PORT is one of this server's."""
        asked = place(address)
        return asked is not None and asked in (place(self.http), place(self.grpc))


def find_server(name: str | None = None) -> LocalServer | None:
    """The server that is meant: the named one; else the one called "default"; else the only one.

    Args:
        name: a server's name, or the path of its run folder; None for the environment's LLAVA_GAZE_SERVER.

    Returns:
        None when nothing was named and nothing runs.

    Raises:
        RequestError: the named server does not run, or several do and none was named.
    """
    named = name or os.environ.get(VARIABLE, "").strip()
    field, name = ("name" if name or not named else VARIABLE), named
    if name and "/" in name:
        path = Path(os.path.expanduser(name))
        path = path if path.suffix == ".json" else state_file(path)
        _refuse_starting([path], field)
        return _require(_read(path), field, name, [])
    running = local_servers()
    if not any(name in ("", one.name) for one in running):
        _refuse_starting([path for path in state_files() if name in ("", path.parent.name)], field)
    if name:
        return _require(next((one for one in running if one.name == name), None), field, name, running)
    chosen = [one for one in running if one.name == DEFAULT_NAME] or running
    if len(chosen) > 1:
        raise RequestError(
            "invalid", "name", f"got none, expected one of the running servers {_listed(chosen)}; name one (--name)"
        )
    return chosen[0] if chosen else None


def require_server(name: str | None = None) -> LocalServer:
    """As `find_server`, and an error when nothing was named and nothing runs."""
    server = find_server(name)
    return server if server is not None else _require(None, "name", name or DEFAULT_NAME, [])


def local_servers() -> list[LocalServer]:
    """Every server of this checkout that is ready and runs on this machine, by name."""
    found = (_read(path) for path in state_files())
    return [server for server in found if server is not None]


def server_at(address: str) -> LocalServer | None:
    """The server of this checkout that listens at an http address or at HOST:PORT."""
    return next((server for server in local_servers() if server.is_at(address)), None)


def choose_model(served: Sequence[str], preferred: str | None = None) -> str:
    """The model to ask when none was named.

    Args:
        served: what the server has; empty when nobody knows.
        preferred: the one that a record comes from; taken where it is served.

    Raises:
        RequestError: several are served and none of them is preferred.
    """
    if preferred and (not served or preferred in served):
        return preferred
    if len(served) > 1:
        raise RequestError("invalid", "model", f"got none, expected {', '.join(served)}; name one (--model)")
    return served[0] if served else default_model()


def _require(server: LocalServer | None, field: str, name: str, running: Sequence[LocalServer]) -> LocalServer:
    if server is None:
        raise RequestError(
            "unavailable",
            field,
            f"got {name!r}, expected a server that is ready on this machine: {_listed(running)}; "
            "start it (make serve NAME=...), or name another or its address (--url)",
        )
    return server


def _refuse_starting(states: Sequence[Path], field: str) -> None:
    """Asks for patience where a server is on its way: it has no key yet, and its address answers nothing of use.

    Raises:
        RequestError: "unavailable", a server of these states is starting on this machine.
    """
    for path in states:
        plain = _plain(path)
        launcher = plain.get("launcher_pid")
        if plain.get("status") == "starting" and type(launcher) is int and _exists(launcher):
            raise RequestError(
                "unavailable",
                field,
                f"got {plain['name']!r:.80}, which is still starting, expected a server that is ready; wait until make "
                "serve says so, then ask again",
            )


def _listed(servers: Sequence[LocalServer]) -> str:
    return ", ".join(f"{server.name} ({', '.join(server.models)})" for server in servers) or "none is"


def _read(path: Path) -> LocalServer | None:
    """The server that a server.json describes; None when it is not ready, not alive or not on this machine.

    Whoever may write into the folder may have written the file: what is not of the form that servers write is none.
    """
    plain = _plain(path)
    models, key_file, certificate = plain.get("models"), plain.get("key_file"), plain.get("certificate") or ""
    if not plain or not isinstance(models, list) or not all(map(_is_text, models)):
        return None
    if not all(isinstance(text, str) for text in (key_file, certificate)):
        return None
    if plain["status"] != "ready" or not _alive(plain.get("pid")):
        return None
    return LocalServer(
        name=plain["name"],
        models=tuple(models),
        http=plain["http"],
        grpc=plain["grpc"],
        key_file=Path(str(key_file)),
        certificate=Path(certificate) if certificate else None,
    )


def _plain(path: Path) -> dict[str, Any]:
    """The state of a server on this machine; nothing where the file is none, or of another machine or boot."""
    try:
        plain = read_json(path)
    except (OSError, ValueError):
        return {}
    if not isinstance(plain, dict) or not all(_is_text(plain.get(key)) for key in ("name", "status", "http", "grpc")):
        return {}
    host, boot_id = plain.get("host", ""), plain.get("boot_id", "")
    if not isinstance(host, str) or not isinstance(boot_id, str) or whereabouts(Machine(host, boot_id)) != "here":
        return {}
    return plain


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != "" and value.isprintable()


def _alive(pid: object) -> bool:
    """Whether the process is a TorchServe, and not a later one that got its number."""
    if type(pid) is not int or not 0 < pid < 1 << 31:
        return False
    proc = Path("/proc") / str(pid) / "cmdline"
    if proc.parent.parent.joinpath("self").exists():
        try:
            return _JAVA_CLASS in proc.read_bytes().split(b"\0")
        except OSError:
            return False
    return _exists(pid)


def _exists(pid: int) -> bool:
    if not 0 < pid < 1 << 31:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True
