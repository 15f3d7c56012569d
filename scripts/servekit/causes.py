"""Why a server did not start or ended, in one line: its exit code and its logs -> the cause.

Flow: a start that failed -> the first exception in the logs, or the last words; an end later on -> Java's exit code and
the last lines alone, since the log of a server that ran for days is full of troubles that it survived.
"""

from __future__ import annotations

import re
import signal
from pathlib import Path

_FILES = ("model_log.log", "ts_log.log", "console.log")
"""The worker's words, then TorchServe's, then Java's own."""
_LAST_BYTES = 16_384
_OUT_OF_MEMORY = 3
"""Java's exit code with -XX:+ExitOnOutOfMemoryError."""
_BY_SIGNAL = 128
_HEAP_FULL = "java.lang.OutOfMemoryError"
_OPTIONS = re.compile(
    r"^(?:Unrecognized|Invalid|Improperly specified|Too small|Could not reserve|Conflicting) .*", re.M
)
"""Java's words for options that it cannot follow; the lines below them only say that it ends."""
_IN_USE = re.compile(r"Failed to bind to address: \S+|Address already in use")


def logged(logs: Path) -> str:
    """What was logged so far in the server's log folder."""
    return "\n".join(_read(logs / name) for name in _FILES)


def cause(logs: Path) -> str:
    """The line of the log that names the cause: the first exception, since later ones only follow from it."""
    said = _read(logs / "console.log").strip().splitlines()
    words = f"last words: {said[-1].strip()}" if said else "killed, perhaps for lack of memory"
    return (exceptions(logs) or [f"no exception in the log; {words}"])[0][:300]


def ending(code: int | None, logs: Path, *, was_ready: bool = False) -> str:
    """What ended TorchServe.

    Args:
        code: the exit code of its process (`servekit.java.process`): Java's, 128 + N for signal N, negative when that
            process itself was killed; None while it is not known.
        was_ready: whether it ended later than at its start.
    """
    last = _read(logs / "ts_log.log")[-_LAST_BYTES:] + _read(logs / "console.log")[-_LAST_BYTES:]
    if _HEAP_FULL in last and code in (1, _OUT_OF_MEMORY):
        return "out of memory: Java's heap was full; raise -Xmx in config.properties (vmargs), or send it less at once"
    if taken := _IN_USE.search(last):
        return f"a port in use: {taken.group()}; stop what has it (ss -ltnp), or choose others: PORT=auto"
    if code is not None and code < 0:
        return f"its first process was killed by {_name(-code)}"
    if code is not None and code > _BY_SIGNAL:
        return _killed(code - _BY_SIGNAL)
    if not was_ready:
        refused = _OPTIONS.search(_read(logs / "console.log"))
        return f"Java's options: {refused.group()}" if refused else cause(logs)
    words = [line.strip() for line in _read(logs / "console.log").splitlines() if line.strip()]
    return f"exit code {code}; last words: {words[-1] if words else 'none'}"[:300]


def exceptions(logs: Path) -> list[str]:
    """The exceptions in the log; a worker's before Java's, without the one that hides the others."""
    lines = logged(logs).splitlines()
    found = (re.search(r"[\w.]*(?:Error|Exception): ?.*", line) for line in lines if "ts.torch_handler" not in line)
    return [match.group().strip() for match in found if match]


def _killed(number: int) -> str:
    if number == signal.SIGKILL:
        return "Java was killed (SIGKILL): by somebody, or by the kernel for lack of memory, which dmesg would say"
    if number in (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE):
        return f"Java crashed ({_name(number)}); java_crash.log tells where"
    return f"somebody sent Java {_name(number)}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
