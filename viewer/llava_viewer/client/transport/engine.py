"""Asks a model in a process beside this one, as the other transports ask a server.

Flow: fields of a request -> a frame to `python -m llava_server.piped` -> the record that comes back, or its refusal.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from llava_viewer.client.errors import timed_out
from llava_viewer.client.protocol import DEFAULT_REPLY_BYTES
from llava_viewer.client.transport.process import EngineProcess
from llava_wire.errors import RequestError
from llava_wire.system.image_fields import is_image_field


class EngineTransport:
    """See `Transport`; requests of several threads are answered one after the other.

    A process that dies is told as a server's worker that died, and the next request starts another.

    Args:
        command: as `process.command_of` gives it.
        say: gets lines for people.

    Raises:
        RequestError: the model does not load.
    """

    def __init__(self, command: Sequence[str], say: Callable[[str], None] = lambda line: None) -> None:
        self._command, self._say = list(command), say
        self._numbers, self._lock = itertools.count(), threading.Lock()
        self._process: EngineProcess | None = EngineProcess.begun(self._command, say)
        self.model = self._process.model

    def send(
        self, fields: Mapping[str, bytes], *, npz: bool, timeout_s: float, most_bytes: int = DEFAULT_REPLY_BYTES
    ) -> bytes:
        """See `Transport.send`; replies are records alone, and as large as the model allows."""
        if "ready" in fields:
            return b'{"status": "ready"}'
        if not npz:
            raise RequestError(
                "invalid", "options.format", "got json, expected npz of an engine without a server; ask a server for it"
            )
        until = time.monotonic() + timeout_s
        with self._lock:
            if self._process is None:
                self._process = EngineProcess.begun(self._command, self._say)
            number = next(self._numbers)
            self._write(self._process, number, fields)
            return self._reply(self._process, number, until, timeout_s)

    def stream(
        self, fields: Mapping[str, bytes], *, timeout_s: float, most_bytes: int = DEFAULT_REPLY_BYTES
    ) -> Iterator[bytes]:
        """See `Transport.stream`; an engine has none.

        Raises:
            RequestError: always.
        """
        raise RequestError(
            "invalid", "options.stream", "got true, expected false of an engine without a server; ask a server for it"
        )

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.close()

    def _write(self, process: EngineProcess, number: int, fields: Mapping[str, bytes]) -> None:
        options = json.loads(fields["options"])
        options.pop("format", None)  # of the reply, which is a record in any case
        images = [data for name, data in fields.items() if is_image_field(name)]
        if "record" in fields:
            process.write({"n": number, "replay": True, "options": options}, [fields["record"], *images])
        else:
            process.write({"n": number, "prompt": fields["prompt"].decode(), "options": options}, images)
        process.write({"flush": True}, [])

    def _reply(self, process: EngineProcess, number: int, until: float, timeout_s: float) -> bytes:
        """The reply of this number; those of requests that were given up before it are dropped."""
        while True:
            try:
                frame = process.read(max(0.0, until - time.monotonic()))
            except TimeoutError:
                raise timed_out(timeout_s) from None
            if frame is None:
                code, self._process = process.ended(), None
                raise RequestError(
                    "worker_died", "engine",
                    f"got its end (exit code {code}), expected a record; see what it printed above, and ask for less",
                )  # fmt: skip
            plain, parts = frame
            if plain.get("n") == number:
                if parts:
                    return parts[0]
                raise RequestError.from_body(plain.get("error")) or RequestError(
                    "internal", "engine", "got no record, expected one"
                )
