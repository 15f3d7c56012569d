"""Programs of a test that meet signals as from a terminal, whatever the shell made of them that runs the tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

OFTEN_IGNORED = (signal.SIGINT, signal.SIGHUP)
"""A job in the background of a script inherits that SIGINT means nothing, and one under nohup the same of SIGHUP."""


@contextmanager
def usual_signals() -> Iterator[None]:
    """Programs started inside get SIGINT and SIGHUP as in a terminal: an ignored signal would be handed on to them."""
    before = {number: signal.getsignal(number) for number in OFTEN_IGNORED}
    for number, handler in before.items():
        if handler == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
