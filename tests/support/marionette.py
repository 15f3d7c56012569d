"""Firefox by its own remote protocol, Marionette: open an address, take a picture of the page.

One JSON list per message, behind its length in bytes and a colon:
https://firefox-source-docs.mozilla.org/testing/marionette/Protocol.html
"""

from __future__ import annotations

import base64
import io
import json
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image as PillowImage

_START_S = 120.0
_ANSWER_S = 180.0
_REST_S = 60.0


class MarionetteError(Exception):
    """Firefox refused a command."""


class Firefox:
    """A headless Firefox with a profile of its own, until the `with` block ends.

    Args:
        program: the program's path.
        profile: an empty folder.
        scripts: whether pages may run scripts.
    """

    def __init__(self, program: str, profile: Path, *, scripts: bool) -> None:
        # Port 0: a free one, which Firefox names in a file of its profile.
        preferences = {"marionette.port": 0, "javascript.enabled": scripts}
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in preferences.items()]
        (profile / "user.js").write_text("".join(lines))
        self._process = subprocess.Popen(
            [program, "--headless", "--no-remote", "--marionette", "--profile", str(profile)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"HOME": str(profile), "PATH": "/usr/bin:/bin"},
        )
        self._number = 0
        try:
            self._socket = self._connect(profile / "MarionetteActivePort")
            self._read()  # the greeting
            self._ask("WebDriver:NewSession", {"capabilities": {"alwaysMatch": {"pageLoadStrategy": "normal"}}})
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def __enter__(self) -> Firefox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(60)

    def picture(self, address: str, width: int, height: int) -> np.ndarray:
        """What a window of this size shows of an address at rest: two pictures in a row agree, [rows, columns, 3] int.

        A page that has just loaded may be drawn coarsely, or not be there to be drawn yet.
        """
        window = self._ask("WebDriver:SetWindowRect", {"width": width, "height": height})
        assert (window["width"], window["height"]) == (width, height)
        self._ask("WebDriver:Navigate", {"url": address})
        before, ends = None, time.monotonic() + _REST_S
        while True:
            time.sleep(0.2)
            try:
                shot = self._ask("WebDriver:TakeScreenshot", {"full": False, "hash": False})["value"]
            except MarionetteError:
                if time.monotonic() > ends:
                    raise
                continue
            if shot == before:
                break
            assert time.monotonic() < ends, "the page is never at rest"
            before = shot
        return np.asarray(PillowImage.open(io.BytesIO(base64.b64decode(shot))).convert("RGB")).astype(int)

    def script(self, text: str) -> Any:
        """What a script's `return` gives in the open page."""
        return self._ask("WebDriver:ExecuteScript", {"script": text, "args": []})["value"]

    def click(self, selector: str, *, shift: bool = False) -> None:
        """A click of the mouse in the middle of an element, with Shift held or not."""
        element = self._ask("WebDriver:FindElement", {"using": "css selector", "value": selector})["value"]
        pointer = [
            {"type": "pointerMove", "x": 0, "y": 0, "origin": element}, {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]  # fmt: skip
        still: list[dict[str, Any]] = [{"type": "pause"}, {"type": "pause"}, {"type": "pause"}]
        key = [{"type": "keyDown", "value": "\ue008"}, *still, {"type": "keyUp", "value": "\ue008"}]
        mouse = {"type": "pointer", "id": "mouse", "actions": [*([{"type": "pause"}] * shift), *pointer]}
        keys = [{"type": "key", "id": "keys", "actions": key}] if shift else []
        self._ask("WebDriver:PerformActions", {"actions": [mouse, *keys]})
        self._ask("WebDriver:ReleaseActions", {})

    def _connect(self, named: Path) -> socket.socket:
        ends = time.monotonic() + _START_S
        while True:
            try:
                return socket.create_connection(("127.0.0.1", int(named.read_text())), timeout=_ANSWER_S)
            except (FileNotFoundError, ValueError, ConnectionRefusedError):
                assert self._process.poll() is None, "Firefox ended"
                assert time.monotonic() < ends, "Firefox does not listen"
                time.sleep(0.1)

    def _ask(self, command: str, parameters: dict[str, Any]) -> Any:
        self._number += 1
        message = json.dumps([0, self._number, command, parameters]).encode()
        self._socket.sendall(f"{len(message)}:".encode() + message)
        _, number, error, result = self._read()
        assert number == self._number
        if error is not None:
            raise MarionetteError(f"{error['error']}: {error['message']}")
        return result

    def _read(self) -> Any:
        length = b""
        while not length.endswith(b":"):
            length += self._some(1)
        left, parts = int(length[:-1]), []
        while left:
            parts.append(self._some(left))
            left -= len(parts[-1])
        return json.loads(b"".join(parts))

    def _some(self, most: int) -> bytes:
        data = self._socket.recv(most)
        assert data, "Firefox closed the connection"
        return data
