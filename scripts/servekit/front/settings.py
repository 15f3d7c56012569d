"""What the front needs to know: where it listens, where TorchServe is, who may come in, and how much at once.

Flow: ports, keys, certificate, properties -> `FrontSettings` -> a JSON file in the scratch folder -> the front.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from servekit.front.limits import Limits
from servekit.ports import Ports
from servekit.tls import Tls


@dataclass(frozen=True)
class FrontSettings:
    """Settings of one front.

    Args:
        host: of all four ports.
        http, grpc: the ports that clients use.
        inner_http, inner_grpc: TorchServe's own.
        models: the models to ask for their health.
        keys: the file of named keys, or empty; key_file: TorchServe's.
        duty: the folder with the workers' heartbeats.
        certificate, private_key: PEM files, empty without TLS.
        limits: how much it takes at once.
    """

    host: str
    http: int
    grpc: int
    inner_http: int
    inner_grpc: int
    models: tuple[str, ...]
    keys: str
    key_file: str
    duty: str
    certificate: str
    private_key: str
    limits: Limits

    @classmethod
    def of(
        cls,
        ports: Ports,
        inner: Ports,
        *,
        models: tuple[str, ...],
        keys: Path | None,
        tls: Tls | None,
        key_file: str,
        duty: Path,
        properties: Mapping[str, str],
        workers: int,
    ) -> FrontSettings:
        """The settings of a server with so many workers; `inner` are the ports that TorchServe listens at.

        Raises:
            SetupError: TorchServe's memory cannot hold what its properties allow.
        """
        return cls(
            host=ports.host,
            http=ports.http,
            grpc=ports.grpc,
            inner_http=inner.http,
            inner_grpc=inner.grpc,
            models=models,
            keys=str(keys.resolve()) if keys else "",
            key_file=key_file,
            duty=str(duty),
            certificate=str(tls.certificate.resolve()) if tls else "",
            private_key=str(tls.private_key.resolve()) if tls else "",
            limits=Limits.of(properties, workers),
        )

    @classmethod
    def read(cls, path: Path) -> FrontSettings:
        """What `write` wrote."""
        plain = json.loads(path.read_text("utf-8"))
        return cls(**{**plain, "models": tuple(plain["models"]), "limits": Limits(**plain["limits"])})

    def write(self, path: Path) -> None:
        """Writes them down for the front's process."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
