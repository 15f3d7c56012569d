"""Addresses of servers: what is allowed, what a predictions address says beside the host, and when two are the same.

Flow: text -> checked host, or (inference address, model), or (host, port) to compare.
"""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_TARGET = "127.0.0.1:7070"
DEFAULT_MODEL = "llava-things"
MODEL_VARIABLE = "LLAVA_GAZE_MODEL"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""Hosts that are reached without the environment's proxy."""
_PREDICTIONS = re.compile(r"(?P<address>.+?)/predictions(?:/(?P<model>[^/]+))?/?")
_PORTS = {"http": 80, "https": 443}


def default_model() -> str:
    """What is asked when nobody names a model: the environment's LLAVA_GAZE_MODEL, else what `make serve` serves."""
    return os.environ.get(MODEL_VARIABLE) or DEFAULT_MODEL


def shown(address: str) -> str:
    """An address, or text given for one, as messages show it: without the name and password that it may carry.

    Where it cannot be told what a sign @ ends, as in a password with a slash, all before the last one goes.
    """
    if "@" not in address:
        return address
    try:
        parts = urlsplit(address)
        # `port` raises ValueError for what is none, such as the beginning of a password with a slash.
        whole = parts.scheme in _PORTS and "@" not in parts.netloc and (parts.port or 1) > 0
    except ValueError:
        whole = False
    scheme, slashes, rest = address.rpartition("://") if address.count("://") == 1 else ("", "", address)
    return address if whole else f"{scheme}{slashes}{rest.rpartition('@')[2]}"


def checked_host(url: str) -> str:
    """The host of an http address; ValueError for anything else."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise ValueError(
            f"url: got {shown(url)!r}, expected http://HOST:PORT or https://HOST:PORT; name the inference address"
        )
    return host


def split_url(url: str) -> tuple[str, str | None]:
    """The inference address, and the model that the address of its predictions names.

    Args:
        url: http://HOST:PORT, with a proxy's path prefix behind it or none; or the same with /predictions/MODEL behind
            it, as a server prints it at its start.

    Raises:
        ValueError: for anything else.
    """
    checked_host(url)
    match = _PREDICTIONS.fullmatch(url)
    if match is None:
        return url.rstrip("/"), None
    return match["address"].rstrip("/"), unquote(match["model"]) if match["model"] else None


def place(address: str) -> tuple[str, int] | None:
    """Host and port of an http address or of HOST:PORT, this machine's own names made one; None for other text."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    return ("127.0.0.1" if host in LOOPBACK else host, port)
