"""The engine in a process beside this one, which keeps torch out of here.

Flow: model -> `python -m llava_server.piped` -> its word that it has loaded -> frames there, and frames back, which a
thread reads, so that the process never waits for this one.
"""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

from llava_viewer.look.wording import at_revision
from llava_wire.errors import RequestError
from llava_wire.system.frames import FrameError, read_frame, write_frame

Frame = tuple[dict[str, Any], list[bytes]]


def command_of(model: str, device: str | None = None, dtype: str | None = None) -> list[str]:
    """The command of an engine.

    Args:
        model: a model of model_store, its YAML, or a checkpoint folder.
        device, dtype: as `llava_server.piped` takes them; None leaves the choice to it.
    """
    named = [("--device", device), ("--dtype", dtype)]
    given = [part for name, value in named if value for part in (name, value)]
    return [sys.executable, "-m", "llava_server.piped", model, *given]


class EngineProcess:
    """One process and what it said.

    Args:
        command: what to run.
    """

    model: str
    """The name of the model that it loaded."""

    def __init__(self, command: Sequence[str]) -> None:
        self._popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._said: queue.Queue[Frame | None] = queue.Queue()
        threading.Thread(target=self._listen, name="engine", daemon=True).start()

    @classmethod
    def begun(cls, command: Sequence[str], say: Callable[[str], None]) -> Self:
        """A process that has loaded its model.

        Args:
            command: as `command_of` gives it.
            say: gets a line for people.

        Raises:
            RequestError: the model does not load.
        """
        process = cls(command)
        frame = process.read()
        if frame is None or "ready" not in frame[0]:
            ending = f"got exit code {process.ended()}, expected a model that loads; what it printed stands above"
            said = str(frame[0].get("failed")).removeprefix("model: ") if frame else ending
            raise RequestError("unavailable", "engine", said)
        process.model = frame[0]["ready"]
        say(f"the engine has loaded {at_revision(process.model, frame[0]['revision'])}")
        return process

    def write(self, plain: dict[str, Any], parts: Sequence[bytes]) -> None:
        """Sends it something; when it has died, `read` says so."""
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):
            write_frame(self._popen.stdin, plain, list(parts))

    def read(self, timeout_s: float | None = None) -> Frame | None:
        """What it says next; None is its end.

        Raises:
            TimeoutError: nothing within so many seconds.
        """
        try:
            return self._said.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError from None

    def ended(self) -> int:
        """Its exit code, once it is at its end."""
        return self._popen.wait()

    def close(self) -> None:
        """Ends it."""
        self._popen.kill()
        self._popen.wait()

    def _listen(self) -> None:
        assert self._popen.stdout is not None
        try:
            while (frame := read_frame(self._popen.stdout)) is not None:
                self._said.put(frame)
        except (FrameError, OSError, ValueError):
            pass  # killed inside a message
        finally:
            self._said.put(None)
