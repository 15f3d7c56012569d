"""Who works on which chunk of a run, on one machine or on many that share a folder.

Flow: a chunk without a part -> `Claims.take` -> a claim file of the next generation -> the part is written ->
`Claims.release`. A claim whose process is gone, or whose heart stopped, is no obstacle: the next generation is taken.

Containers have processes of their own, so that two workers may be process 1 of one host's name: what cannot be looked
for here is judged by its heart. A worker with a name, which a cluster starts again elsewhere, has what it had begun.

A claim is never removed to be taken over, since two workers could do that at once: it is outbid. Files are created
exclusively, so one worker gets a generation; whoever finds a higher one than its own has lost the chunk.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import threading
from pathlib import Path
from typing import Any

from llava_wire.system.machine import Machine, this_machine, whereabouts

BEAT_S = 20.0
"""Between two signs of life."""
STALE_S = 300.0
"""Without a sign of life from another machine for so long, its claim counts no more."""
_NAME = re.compile(r"(\d{6,})\.(\d+)\.claim")


class Claims:
    """The claims of one worker in a run's folder; a context manager that keeps them alive.

    Args:
        folder: of the claims, shared by all workers.
        stale_s: seconds without a sign of life after which another machine's claim counts no more.
        worker: a name that no two workers have at a time; an earlier one of this name is gone.
    """

    def __init__(self, folder: Path, stale_s: float = STALE_S, worker: str = "") -> None:
        self._folder, self._stale_s, self._worker = folder, stale_s, worker
        self._held: dict[int, int] = {}
        self._token = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self.others: dict[int, str] = {}

    def __enter__(self) -> Claims:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Gives back what is still held: others need not find out that this worker is gone."""
        self._ended.set()
        self._heart.join()
        for chunk in list(self._held):
            self.release(chunk)

    def take(self, chunk: int) -> bool:
        """Claims a chunk; False when somebody alive has it, and `others` then says who."""
        there = self._generations(chunk)
        last = max(there, default=0)
        if last:
            holder = self._holder(chunk, last)
            if holder is not None:
                self.others[chunk] = holder
                return False
        if not self._made(self._path(chunk, last + 1)):
            self.others[chunk] = "another worker"
            return False
        self.others.pop(chunk, None)
        with self._lock:
            self._held[chunk] = last + 1
        return True

    def holds(self, chunk: int) -> bool:
        """Whether a chunk is still this worker's, which it is not when others took it for dead."""
        own = self._held.get(chunk, 0)
        return bool(own) and max(self._generations(chunk), default=0) == own and self._is_own(chunk, own)

    def release(self, chunk: int) -> None:
        """Gives a chunk back, or lets go of one that is finished, with the claims that were outbid."""
        with self._lock:
            own = self._held.pop(chunk, 0)
        if own and self._is_own(chunk, own):
            for generation in self._generations(chunk):
                if generation <= own:
                    self._path(chunk, generation).unlink(missing_ok=True)

    def _is_own(self, chunk: int, generation: int) -> bool:
        """Whether a claim is this worker's: who outbid it may have gone, and generations then begin anew."""
        try:
            return bool(json.loads(self._path(chunk, generation).read_text("utf-8")).get("token") == self._token)
        except (OSError, ValueError, AttributeError):
            return False

    def _made(self, path: Path) -> bool:
        """Makes a claim, whole from the start; False when another worker was first."""
        beside = self._folder / f".{path.name}.{secrets.token_hex(8)}"
        beside.write_text(json.dumps(_here() | {"worker": self._worker, "token": self._token}), encoding="utf-8")
        try:
            os.link(beside, path)
        except FileExistsError:
            return False
        finally:
            beside.unlink()
        return True

    def _generations(self, chunk: int) -> list[int]:
        found = (_NAME.fullmatch(path.name) for path in self._folder.glob(f"{chunk:06}.*.claim"))
        return [int(match[2]) for match in found if match]

    def _path(self, chunk: int, generation: int) -> Path:
        return self._folder / f"{chunk:06}.{generation}.claim"

    def _holder(self, chunk: int, generation: int) -> str | None:
        """Who holds a claim, in words; None when nobody does any more."""
        path = self._path(chunk, generation)
        try:
            plain = json.loads(path.read_text("utf-8"))
            machine, pid = Machine(str(plain["host"]), str(plain["boot_id"])), int(plain["pid"])
        except OSError:
            return None
        except (ValueError, KeyError, TypeError):
            return None if self._silent(path) else "another worker"
        where = whereabouts(machine)
        # Of a system that cannot tell, and of claims that earlier versions made, all processes are these.
        if where == "here" and plain.get("processes", _processes()) == _processes():
            alive = _started(pid) == plain.get("started") and _started(pid) is not None
            return f"process {pid} of this machine" if alive else None
        if where == "ended" or (self._worker and plain.get("worker") == self._worker):
            return None
        return None if self._silent(path) else f"process {pid} on {machine.host}"

    def _silent(self, path: Path) -> bool:
        """Whether a claim got no sign of life for too long, by the clock of the file system that all share."""
        mark = self._folder / f".now.{secrets.token_hex(8)}"
        try:
            mark.touch()
            return mark.stat().st_mtime - path.stat().st_mtime > self._stale_s
        except OSError:
            return False
        finally:
            mark.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(min(BEAT_S, self._stale_s / 4)):
            with self._lock:
                held = dict(self._held)
            for chunk, generation in held.items():
                if self._is_own(chunk, generation):
                    with contextlib.suppress(OSError):
                        os.utime(self._path(chunk, generation))


def _here() -> dict[str, Any]:
    machine = this_machine()
    pid = os.getpid()
    return {
        "host": machine.host, "boot_id": machine.boot_id, "processes": _processes(), "pid": pid,
        "started": _started(pid),
    }  # fmt: skip


def _processes() -> str:
    """Which processes are numbered together with this one: a container's own, or all of a machine; "" where the
    system does not tell."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process of this machine started, so that a later one with its number is not taken for it; None when it
    is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        try:  # a system without /proc: the number has to do
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except OSError:
            pass
        return ""
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]
