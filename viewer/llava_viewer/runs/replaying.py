"""Answers that exist, asked about again by an engine in a process beside this one.

Flow: record + options -> a frame to `python -m llava_server.piped` -> the record that comes back.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llava_viewer.client.fields import pictures_in, replay_fields
from llava_viewer.runs.process import EngineProcess
from llava_wire.container import decode
from llava_wire.errors import RequestError
from llava_wire.record import Record


class EngineReplays:
    """An engine that is asked about answers; `Client.replay` is the same of a server.

    Args:
        command: as `llava_viewer.runs.process.command_of` gives it.
        say: gets lines for people.

    Raises:
        RequestError: the model does not load.
    """

    def __init__(self, command: Sequence[str], say: Callable[[str], None] = lambda line: None) -> None:
        self._process = EngineProcess.begun(command, say)
        self._numbers = itertools.count()

    def replay(self, record: Record, options: Mapping[str, Any]) -> Record:
        """Other views or checks of an answer, without generating it again.

        Args:
            record: the answer, with its image; it must come from this model.
            options: of the replay.

        Raises:
            RequestError: it was refused, or the engine died.
        """
        fields, number = replay_fields(record, None, {}), next(self._numbers)
        asked = {"n": number, "replay": True, "options": dict(options)}
        self._process.write(asked, [fields["record"], *pictures_in(fields)])
        self._process.write({"flush": True}, [])
        while (frame := self._process.read()) is not None:
            plain, parts = frame
            if plain.get("n") == number:
                if parts:
                    return decode(parts[0])
                raise RequestError.from_body(plain.get("error")) or RequestError(
                    "internal", "engine", "got no record, expected one"
                )
        code = self._process.ended()
        raise RequestError(
            "unavailable", "engine",
            f"got its end (exit code {code}), expected a record; see what it printed above, and ask for less",
        )  # fmt: skip

    def close(self) -> None:
        """Ends the engine."""
        self._process.close()
