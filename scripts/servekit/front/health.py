"""Whether the workers answer, asked for real: probes through TorchServe every few seconds, and the workers' heartbeats.

Flow: `Health.watch` sends a probe to each model and reads the heartbeats -> `troubles` -> `ping` for clients, and
health.json for whoever started the server, who ends what does not answer (`servekit.watch.watchdog`).
TorchServe itself says READY of a worker that was stopped, and of one that it can send nothing to any more.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from llava_wire.system.inner import PROBE_HEADER
from servekit.front import upstream
from servekit.front.access import Access
from servekit.front.heartbeats import FRESH_S, read_beats
from servekit.front.settings import FrontSettings

HEALTH_FILE = "health.json"
IDLE_S = 15.0
"""A probe that is not answered in this time while no worker is busy shows that requests do not arrive."""
_PROBE_S = 5.0
_WATCH_S = 1.0
_PROBE = (PROBE_HEADER.encode(), b"1")


class Health:
    """The health of one server's models.

    Args:
        settings: the front's.
        access: its keys.
    """

    def __init__(self, settings: FrontSettings, access: Access) -> None:
        self._settings = settings
        self._access = access
        self._folder = Path(settings.duty)
        self._upstream = upstream.Upstream(settings.host, settings.inner_http)
        # By model: since when a probe is not answered, and when it last was not expected to be.
        self._asked: dict[str, float] = {}
        self._moved: dict[str, float] = {}
        self._silent: frozenset[str] = frozenset()

    async def watch(self) -> None:
        """Asks, and writes down what is known, until the front ends."""
        probes = [asyncio.create_task(self._probe(model)) for model in self._settings.models]
        try:
            while True:
                self._access.refresh()
                beats = read_beats(self._folder)
                fresh = {beat.model for beat in beats if beat.age_s <= FRESH_S}
                self._silent = frozenset(beat.model for beat in beats) - fresh
                idle = {beat.model for beat in beats if beat.is_idle}
                for model in self._settings.models:
                    # Nobody can be reached that is not there, or loads: only an idle worker shows that nothing arrives.
                    if model not in idle:
                        self.moved(model)
                self._write(self.troubles())
                await asyncio.sleep(_WATCH_S)
        finally:
            for probe in probes:
                probe.cancel()

    def moved(self, model: str) -> None:
        """Notes that a model has answered, or that none of its workers is idle."""
        self._moved[model] = time.monotonic()

    def troubles(self) -> list[dict[str, Any]]:
        """What is wrong: {"kind": "worker" or "server", "pid" or "model", "for_s": seconds}; empty when all is well."""
        beats = [beat for beat in read_beats(self._folder) if beat.model in self._settings.models]
        found: list[dict[str, Any]] = [
            {"kind": "worker", "pid": beat.pid, "model": beat.model, "for_s": round(beat.age_s, 1)}
            for beat in beats
            if beat.age_s > FRESH_S
        ]
        for model, asked in self._asked.items():
            idle_s = time.monotonic() - max(asked, self._moved.get(model, 0.0))
            if idle_s > IDLE_S:
                found.append({"kind": "server", "model": model, "for_s": round(idle_s, 1)})
        return found

    def is_silent(self, model: str) -> bool:
        """Whether all workers of a model are there and show no sign of life: nobody would answer in time."""
        return model in self._silent

    async def ping(self) -> tuple[int, dict[str, Any]]:
        """Status and body of a health check."""
        troubles = self.troubles()
        if troubles:
            return 503, {"status": "Unhealthy", "troubles": troubles}
        status, said = await self._ask(upstream.Ask("GET", "/ping", self._key()))
        if status != 200:
            return 503, {"status": "Unhealthy" if status else "Starting"}
        return 200, {"status": str(said.get("status", "")) if isinstance(said, dict) else ""}

    async def _probe(self, model: str) -> None:
        while True:
            self._asked.setdefault(model, time.monotonic())
            ask = upstream.Ask("POST", f"/predictions/{model}", [*self._key(), _PROBE], [b"{}"])
            status, _ = await self._ask(ask)
            # A queue that is full, or a worker that is starting again, does not take the probe, but answers it.
            if status:
                self._asked.pop(model, None)
            if status == 200:
                self.moved(model)
            await asyncio.sleep(_PROBE_S)

    def _key(self) -> list[tuple[bytes, bytes]]:
        return [(b"Authorization", f"Bearer {self._access.inner_key()}".encode())]

    async def _ask(self, ask: upstream.Ask) -> tuple[int, Any]:
        """Status and JSON of a reply; status 0 when there is none."""
        got: list[int] = []
        body = bytearray()

        async def on_head(status: int, headers: upstream.Headers) -> None:
            got.append(status)

        async def on_piece(data: bytes) -> None:
            if len(body) < 65_536:
                body.extend(data)

        try:
            await self._upstream.exchange(ask, on_head, on_piece)
            return got[0], json.loads(bytes(body) or b"null")
        except (upstream.Gone, IndexError):
            return 0, None
        except ValueError:
            return got[0], None

    def _write(self, troubles: list[dict[str, Any]]) -> None:
        partial = self._folder / f"{HEALTH_FILE}.new"
        try:
            partial.write_text(json.dumps({"at": time.time(), "troubles": troubles}), encoding="utf-8")
            partial.replace(self._folder / HEALTH_FILE)
        except OSError:
            pass  # A folder that is full or gone must not cost an answer.
