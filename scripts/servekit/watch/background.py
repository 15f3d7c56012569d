"""Goes on without a terminal: a process of its own does the work, and the one that was called returns when it may.

Flow: `detached(work)` -> fork, a session of its own -> `work(let_go)` -> it calls `let_go` when all is well: its words
go to a file from then on, and the caller's process ends with 0; or it ends first, and the caller with its exit code.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

LetGo = Callable[[Path], None]
"""Sends whatever is printed from now on to a file; the first call lets the caller's process end."""


def detached(work: Callable[[LetGo], int]) -> int:
    """Runs `work` in a process of its own.

    Args:
        work: what to do; until it calls what it is given, its words go to this terminal and its failures are the
            caller's. A signal to the caller reaches it as SIGTERM.

    Returns:
        in the caller's process 0 once all is well, else the exit code of `work`; in the other process what `work` says.
    """
    listen, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(listen)
        os.setsid()
        told = False

        def let_go(log: Path) -> None:
            nonlocal told
            _redirect(log)
            if not told:
                os.write(tell, b"1")
                os.close(tell)
                told = True

        return work(let_go)
    os.close(tell)
    try:
        if os.read(listen, 1):
            return 0
    except KeyboardInterrupt:
        os.kill(child, signal.SIGTERM)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _redirect(log: Path) -> None:
    """Standard input from nowhere, output to the file."""
    nowhere = os.open(os.devnull, os.O_RDONLY)
    words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((nowhere, 0), (words, 1), (words, 2)):
        os.dup2(source, target)
    os.close(nowhere)
    os.close(words)
