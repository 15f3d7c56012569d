"""Everything that can be wrong before TorchServe starts, each with one line that says what to do.

Flow: models, name, ports, environment -> checks -> `Plan`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from servekit import devices
from servekit.java.find import Java, find_java
from servekit.models import check_archive, read_archive
from servekit.paths import MODEL_STORE, ROOT, SetupError
from servekit.ports import Ports, read_properties, require_free, resolve_ports
from servekit.state import own_state


@dataclass(frozen=True)
class Plan:
    """What a start needs, checked; `workers` is how many there will be, of all models."""

    java: Java
    ports: Ports
    properties: dict[str, str]
    env: dict[str, str]
    workers: int


def check(
    models: Sequence[str], *, name: str, ports: str | Ports | None, env: dict[str, str], store: Path = MODEL_STORE
) -> Plan:
    """Runs every check; raises `SetupError` at the first that fails."""
    if not models:
        raise SetupError("models: got none, expected at least one; run: make serve MODEL=llava-things")
    found = importlib.util.find_spec("ts")
    if found is None:
        raise SetupError("torchserve: got no such package, expected torchserve 0.12.0; run: make setup")
    require_readable_paths([ROOT, store, Path(sys.executable)], Path(str(found.origin)))
    running = own_state(name)
    if running is not None and running.alive():
        raise SetupError(
            f"server {name!r}: got one running already (pid {running.pid}, {running.http}), expected one of each name; "
            f"stop it (make stop NAME={name}) or name another: make serve NAME=other PORT=auto"
        )
    java = find_java(env)
    properties = read_properties()
    workers = 0
    for model in models:
        # From the archive, which is what the worker follows, also where the YAML has changed since.
        content = read_archive(model, store / f"{model}.mar")
        devices.require_device(model, content["handler"], content, env)
        check_archive(model, content)
        workers += int(content.get("maxWorkers") or properties.get("default_workers_per_model") or 1)
    chosen = resolve_ports(ports, properties)
    require_free(chosen)
    return Plan(java, chosen, properties, env, workers)


def require_readable_paths(places: Sequence[Path], package: Path) -> None:
    """Whether Java can be told these paths.

    Args:
        places: what it is told of; each must be UTF-8.
        package: TorchServe's own place; Java's class path, in which it stands, is taken apart at colons.
    """
    for place in (*places, package.resolve()):
        try:
            str(place).encode()
        except UnicodeEncodeError as error:
            raise SetupError(
                f"path: got {str(place)!a}, expected names in UTF-8, as Java reads them; rename the folder"
            ) from error
    if ":" in str(package.resolve()):
        raise SetupError(
            f"path: got torchserve in {package.resolve().parent}, expected a place without a colon, which "
            "separates the parts of Java's class path; move the checkout, or make its .venv elsewhere"
        )
