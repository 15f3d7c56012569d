"""Which machine this is, so that what a server wrote on a disk that several machines share says whose it is.

Flow: host name + id of the present boot -> `Machine` -> `whereabouts` of what another process wrote down.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Literal, NamedTuple

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Whereabouts = Literal["here", "ended", "elsewhere"]
"""On this machine since its last start; on this machine before that, and so ended; on another machine."""


class Machine(NamedTuple):
    """A machine's name and the id of its boot (empty where the system has none)."""

    host: str
    boot_id: str


def this_machine() -> Machine:
    """The machine that this process runs on; a container with a name of its own counts as one."""
    try:
        boot_id = _BOOT_ID.read_text("ascii").strip()
    except OSError:
        boot_id = ""
    return Machine(platform.node(), boot_id)


def whereabouts(written: Machine, here: Machine | None = None) -> Whereabouts:
    """Where a process runs whose machine was written down.

    Args:
        written: the machine as it was written down; an empty host (state of an older version) counts as this machine.
        here: this machine, for tests.
    """
    here = here or this_machine()
    if not written.host:
        return "here"
    if written.host != here.host:
        return "elsewhere"
    return "here" if written.boot_id == here.boot_id else "ended"
