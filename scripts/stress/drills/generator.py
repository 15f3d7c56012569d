"""A load in a process of its own that fires when it is told.

Flow: a load's name, a server's name, a case -> `python -m stress.crowding` -> `Generator.fire`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llava_wire import encode
from servekit.paths import SetupError, with_sources
from stress.crowding.loads import LOADS
from stress.soaking.cases import Case


class Generator:
    """A process that fires one load, as often as it is told.

    Args:
        load: its name.
        server: the server's name; it must be running.
        count: how many at once.
        case: whose picture and record replays are made of.
    """

    def __init__(self, load: str, server: str, count: int, case: Case) -> None:
        assert load in LOADS
        assert case.truth is not None
        self._folder = Path(tempfile.mkdtemp(prefix="lgaze-drill-"))
        picture, record = self._folder / "picture.png", self._folder / "record.npz"
        picture.write_bytes(case.fields["image"])
        record.write_bytes(encode(case.truth))
        command = [sys.executable, "-m", "stress.crowding", load, "--server", server, "--count", str(count)]
        command += ["--picture", str(picture), "--record", str(record)]
        environment = {**with_sources(os.environ), "GRPC_VERBOSITY": "ERROR"}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._line()

    def fire(self) -> dict[str, Any]:
        """One run: `seen` (word and seconds of each), `seconds`, `cpu_s` of the process that fired."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        content: dict[str, Any] = json.loads(self._line())
        return content

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SetupError(
                "crowding: got a load that ended, expected one that fires; run python -m stress.crowding by hand"
            )
        return line


@contextlib.contextmanager
def generator(load: str, server: str, count: int, case: Case) -> Iterator[Generator]:
    """A `Generator` that is closed at the end."""
    one = Generator(load, server, count, case)
    try:
        yield one
    finally:
        one.close()
