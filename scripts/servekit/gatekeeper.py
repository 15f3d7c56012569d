"""Keeps the gate of a server with named keys running (`servekit.gate` is what runs).

Flow: ports, key files, certificate -> `GateSettings` -> a file in the server's scratch folder -> the gate's process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from servekit.ports import Ports
from servekit.state import ServerState
from servekit.tls import Tls

GATE_MODULE = "servekit.gate"
NAMED_KEYS_VARIABLE = "LLAVA_GAZE_NAMED_KEYS"
"""Tells the workers that the names of keys come from a gate and may be believed."""


@dataclass(frozen=True)
class GateSettings:
    """Where the gate listens, where it leads, and which keys open it.

    Args:
        host: of all four ports.
        http, grpc: the ports that clients use.
        inner_http, inner_grpc: TorchServe's own.
        keys: the file of named keys; key_file: TorchServe's.
        certificate, private_key: PEM files, empty without TLS.
        most_bytes: of one gRPC message.
    """

    host: str
    http: int
    grpc: int
    inner_http: int
    inner_grpc: int
    keys: str
    key_file: str
    certificate: str
    private_key: str
    most_bytes: int

    @classmethod
    def of(
        cls, keys: Path, ports: Ports, inner: Ports, tls: Tls | None, key_file: str, most_bytes: int
    ) -> GateSettings:
        """The settings of a server; `inner` are the ports that TorchServe listens at."""
        return cls(
            host=ports.host,
            http=ports.http,
            grpc=ports.grpc,
            inner_http=inner.http,
            inner_grpc=inner.grpc,
            keys=str(keys.resolve()),
            key_file=key_file,
            certificate=str(tls.certificate.resolve()) if tls else "",
            private_key=str(tls.private_key.resolve()) if tls else "",
            most_bytes=most_bytes,
        )

    @classmethod
    def read(cls, path: Path) -> GateSettings:
        """What `Gatekeeper` wrote down."""
        return cls(**json.loads(path.read_text("utf-8")))


class Gatekeeper:
    """One server's gate, started at once; whoever stops the server ends it (its command names the scratch folder)."""

    def __init__(self, settings: GateSettings, state: ServerState) -> None:
        self._path = Path(state.scratch) / "gate.json"
        self._log = Path(state.logs) / "gate.log"
        self._path.write_text(json.dumps(asdict(settings)), encoding="utf-8")
        self._process = self._launch()

    def keep(self) -> None:
        """Starts it again when it has ended."""
        if self._process.poll() is not None:
            self._process = self._launch()

    def _launch(self) -> subprocess.Popen[bytes]:
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", GATE_MODULE, str(self._path)],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
