"""Keeps the front of a server running."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from servekit.front.health import HEALTH_FILE
from servekit.front.settings import FrontSettings
from servekit.paths import with_sources
from servekit.state import ServerState

FRONT_MODULE = "servekit.front"
SETTINGS_FILE = "front.json"
"""In the scratch folder."""
SILENT_S = 30.0
"""A front that has written nothing about its health for so long is ended and started again."""


class Keeper:
    """One server's front, started at once; whoever stops the server ends it (its command names the scratch folder)."""

    def __init__(self, settings: FrontSettings, state: ServerState) -> None:
        self._path = Path(state.scratch) / SETTINGS_FILE
        self._log = Path(state.logs) / "front.log"
        self._health = Path(settings.duty) / HEALTH_FILE
        settings.write(self._path)
        self._launch()

    def keep(self) -> None:
        """Starts it again when it has ended, or when it does nothing any more."""
        if self._process.poll() is None and self._silent_s() > SILENT_S:
            self._process.kill()
            self._process.wait()
        if self._process.poll() is not None:
            self._launch()

    def ending(self) -> str | None:
        """Why the front is gone, by the last line that it logged; None while it runs."""
        if self._process.poll() is None:
            return None
        lines = self._log.read_text("utf-8", "replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return f"exit code {self._process.returncode}: {said}"

    def _silent_s(self) -> float:
        try:
            last = self._health.stat().st_mtime
        except OSError:
            last = 0.0
        return time.time() - max(last, self._launched)

    def _launch(self) -> None:
        env = {
            **with_sources(os.environ),
            # gRPC's own log would have a line for every stranger that speaks something else.
            "GRPC_VERBOSITY": "NONE",
            # Freed bodies go back to the system at once, instead of staying in the heaps of gRPC's threads.
            "MALLOC_ARENA_MAX": "2",
            "MALLOC_MMAP_THRESHOLD_": "262144",
        }
        self._launched = time.time()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", FRONT_MODULE, str(self._path)],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
