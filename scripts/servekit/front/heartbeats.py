"""The workers' heartbeats: files that each worker writes every second (`llava_server.front.heartbeat`)."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from llava_wire.system.inner import BEAT

FRESH_S = 10.0
"""A worker whose heartbeat is older than this may be stopped."""


@dataclass(frozen=True)
class Beat:
    """What a worker last said.

    Args:
        pid: its process, which is there.
        model: what it serves.
        age_s: seconds since it said so.
        is_busy: whether it ran a batch, or loaded its model, then.
    """

    pid: int
    model: str
    age_s: float
    is_busy: bool

    @property
    def is_idle(self) -> bool:
        """Whether it lives and waits for requests."""
        return self.age_s <= FRESH_S and not self.is_busy


def read_beats(folder: Path) -> list[Beat]:
    """The heartbeats of workers that are there; what cannot be read is none."""
    beats = []
    for path in folder.glob(f"*{BEAT}"):
        try:
            said = json.loads(path.read_text("utf-8"))
            age_s = max(0.0, time.time() - path.stat().st_mtime)
            beat = Beat(int(said["pid"]), str(said["model"]), age_s, said["busy_since"] is not None)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if psutil.pid_exists(beat.pid):
            beats.append(beat)
    return beats
