"""How long a server asks to be left alone: the header `Retry-After`, over gRPC the trailing metadata `retry-after`.

Flow: its text -> seconds from now, or None for what says nothing.
"""

from __future__ import annotations

import email.utils
import re
import time

_SECONDS = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)


def seconds_named(text: str) -> float | None:
    """The seconds that a Retry-After names: a number, or a date of HTTP.

    Args:
        text: a stranger's; negative numbers and whatever else is neither say nothing.
    """
    text = text.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    if len(text) > 40 or "GMT" not in text:
        return None
    try:
        date = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return max(date - time.time(), 0.0)
