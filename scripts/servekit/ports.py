"""The five ports of one server, and config.properties with other ports in it.

Flow: config.properties + "auto" or a first port -> `Ports` -> the properties that this one server runs with.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from servekit.paths import CONFIG, SetupError, shown

_HTTP_KEYS = {"http": "inference_address", "management": "management_address", "metrics": "metrics_address"}
_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL_OUTGOING = 32768
_LOWEST_FREE = 10_000
_GRPC_KEYS = {"grpc": "grpc_inference", "grpc_management": "grpc_management"}


@dataclass(frozen=True)
class Ports:
    """Host and ports of one server."""

    host: str
    http: int
    management: int
    metrics: int
    grpc: int
    grpc_management: int

    def all(self) -> dict[str, int]:
        """Every port by name."""
        return {name: port for name, port in asdict(self).items() if name != "host"}


def read_properties(path: Path = CONFIG) -> dict[str, str]:
    """The key=value lines of a properties file."""
    if not path.is_file():
        raise SetupError(f"config: got no {shown(path)}, expected a properties file; restore it from git")
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#") and "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def resolve_ports(choice: str | Ports | None, properties: dict[str, str]) -> Ports:
    """`None`: as in the properties; "auto": free ones; a number N: N, N+1, ... N+4; ports that are known already."""
    if isinstance(choice, Ports):
        return choice
    configured = _configured(properties)
    if choice is None or choice == "":
        return configured
    if choice == "auto":
        return Ports(configured.host, *_free_ports(configured.host, 5))
    if not re.fullmatch(r"\d{1,5}", choice) or not 1024 <= int(choice) <= 65531:
        raise SetupError(
            f"ports: got {choice!r}, expected 'auto' or a first port of 1024 to 65531; five in a row are used"
        )
    return Ports(configured.host, *range(int(choice), int(choice) + 5))


def behind(ports: Ports) -> Ports:
    """The same with other, free inference ports, for a TorchServe that has the front before it."""
    # The outer ones are free as well, so they could come up again.
    taken = set(ports.all().values())
    http, grpc = [port for port in _free_ports(ports.host, 2 + len(taken)) if port not in taken][:2]
    return replace(ports, http=http, grpc=grpc)


def require_free(ports: Ports) -> None:
    """Each port must be free: TorchServe itself ends quietly, with exit code 0, when one is not."""
    for name, port in ports.all().items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ports.host, port))
            except OSError as error:
                raise SetupError(
                    f"ports: got {name} port {port} in use ({error.strerror}), expected a free one; "
                    "stop the other server (make stop), or choose others: make serve PORT=auto"
                ) from error


def listening(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=2):
        return True
    return False


def with_ports(properties: dict[str, str], ports: Ports) -> dict[str, str]:
    """The same properties at other ports."""
    changed = dict(properties)
    numbers = ports.all()
    for name, key in _HTTP_KEYS.items():
        changed[key] = f"http://{ports.host}:{numbers[name]}"
    for name, key in _GRPC_KEYS.items():
        changed[f"{key}_address"] = ports.host
        changed[f"{key}_port"] = str(numbers[name])
    return changed


def _configured(properties: dict[str, str]) -> Ports:
    numbers: dict[str, int] = {}
    host = "127.0.0.1"
    for name, key in _HTTP_KEYS.items():
        parts = urlsplit(properties.get(key, ""))
        if parts.scheme != "http" or not parts.hostname or not parts.port:
            raise SetupError(
                f"config.properties {key}: got {properties.get(key)!r}, expected http://HOST:PORT; "
                "for TLS: serve.py --certificate and --private-key"
            )
        numbers[name] = parts.port
        host = parts.hostname
    for name, key in _GRPC_KEYS.items():
        numbers[name] = int(properties.get(f"{key}_port", "7070" if name == "grpc" else "7071"))
    return Ports(host, **numbers)


def _free_ports(host: str, count: int) -> list[int]:
    """Below the ports that the system gives to outgoing connections: one of those could take it before Java does."""
    free: list[int] = []
    for port in random.sample(range(_LOWEST_FREE, _first_outgoing()), 100 * count):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            free.append(port)
        if len(free) == count:
            return free
    raise SetupError(
        f"ports: got no {count} free ones from {_LOWEST_FREE} on, expected five; name the first: PORT=9100"
    )


def _first_outgoing() -> int:
    try:
        first = int(_OUTGOING.read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        first = _USUAL_OUTGOING
    return first if first >= _LOWEST_FREE + 1000 else 65536
