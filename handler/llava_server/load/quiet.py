"""Keeps the libraries' progress bars out of notebooks and log files, where each is a box or a line of noise."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def bars_on_terminals_only() -> Iterator[None]:
    """Inside, and around a function that it decorates, transformers shows its bars only where stderr is a terminal."""
    hidden = logging.is_progress_bar_enabled() and not (sys.stderr is not None and sys.stderr.isatty())
    if hidden:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if hidden:
            logging.enable_progress_bar()
