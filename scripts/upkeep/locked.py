"""Runs a command that makes a file, while no other does; unless the file has been made by then.

Flow: a lock, waited for -> is the file newer than what it is made of? -> else the command, which keeps the lock.

The Makefile installs by it, so that several of its runs may begin at a time. It needs the standard library alone, as
nothing is installed yet.

Example: python3 scripts/upkeep/locked.py .venv/.ready pyproject.toml -- make install
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Sequence
from pathlib import Path

LOCK = Path(".venv.lock")


def main(arguments: Sequence[str]) -> None:
    """Runs the command behind `--` in the place of this process.

    Args:
        arguments: the file, what it is made of, `--`, the command.
    """
    at = arguments.index("--")
    (made, *of), command = map(Path, arguments[:at]), arguments[at + 1 :]
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print(f"waiting for another process that makes {made.parent}", file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    if made.exists() and all(made.stat().st_mtime_ns > one.stat().st_mtime_ns for one in of):
        return
    # The command, and whatever it starts, has the lock until its end, however that comes.
    os.set_inheritable(lock, True)
    os.execvp(command[0], [*command])


if __name__ == "__main__":
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(__doc__)
    else:
        main(sys.argv[1:])
