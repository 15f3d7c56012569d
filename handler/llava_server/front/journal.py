"""The worker's log, one JSON object a line, and what a client may know of an error that nobody foresaw.

Flow: what happened -> `note` -> the log; an exception -> its place in the log, a `RequestError` for the client. Neither
holds a prompt or a picture, and no exception's message, which may quote them.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import traceback
from datetime import UTC, datetime
from typing import Any

from llava_server.load.memory import is_out_of_memory
from llava_wire.errors import RequestError

_log = logging.getLogger("llava_gaze")


def note(**seen: Any) -> None:
    """Writes one line, with the moment in UTC."""
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    _log.info(json.dumps({"time": moment, **seen}))


def elapsed_ms(begin: float) -> float:
    """Milliseconds since `begin`, a `time.monotonic()`."""
    return round((time.monotonic() - begin) * 1000, 1)


def refusal(error: Exception) -> RequestError:
    """What a client may know of an error outside the engine's own refusals."""
    if not is_out_of_memory(error):
        return _internal(error)
    note(event="out_of_memory", error=type(error).__name__)
    message = "got more than the server has memory for, expected less; send a smaller image, name fewer views or steps"
    return RequestError("does_not_fit", "", message)


def _internal(error: Exception) -> RequestError:
    note(event="internal", error=type(error).__name__, at="".join(traceback.format_tb(error.__traceback__)))
    if "CUDA error" in str(error):
        # After such an error every later call on this GPU fails: the worker leaves, TorchServe starts a fresh one.
        threading.Timer(1.0, os._exit, (1,)).start()
    return RequestError("internal", "", "internal error; see the server log with this request id, and report it")
