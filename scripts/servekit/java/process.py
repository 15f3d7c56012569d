"""Stands by Java: what `python -m ts.model_server` does, with Java's own exit code and an end to what it prints.

Flow: `servekit.launching` -> this process -> TorchServe's launcher, which starts Java and waits -> meanwhile the file
that Java prints into (this process's standard output too) is trimmed -> Java's exit code, as a shell counts it.
Run as a file, `process.py ts.model_server ARGUMENTS`: Java's workers inherit the environment, which therefore
cannot say where this project's scripts are.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

_CONSOLE = Path("/proc/self/fd/1")
"""By its descriptor, so that a log folder that was moved or removed makes no difference."""
_BEAT_S = 0.5


def main() -> int:
    """Runs TorchServe's launcher; the exit code is Java's, 128 + N when signal N ended it, 1 when it never began."""
    # Last, so that no name in there stands in for an installed package.
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    from servekit.java.trimming import trim

    def keep_short() -> None:
        while True:
            trim(_CONSOLE)
            time.sleep(_BEAT_S)

    launcher = importlib.import_module(sys.argv[1])
    java: list[subprocess.Popen[bytes]] = []

    def started(command: list[str]) -> subprocess.Popen[bytes]:
        java.append(subprocess.Popen(command))
        return java[0]

    # It waits for Java, and then says nothing about how that ended.
    launcher.subprocess = types.SimpleNamespace(Popen=started)  # type: ignore[attr-defined]
    threading.Thread(target=keep_short, daemon=True).start()
    del sys.argv[1]
    launcher.start()
    if not java:
        return 1
    code = java[0].wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
