"""Small JSON files that servers of this machine keep and that others may have written: key files and server.json.

Flow: path -> a regular file, no larger than allowed -> the JSON value in it, or an error that names what is wrong.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

MOST_BYTES = 1 << 20


def read_json(path: Path) -> Any:
    """The JSON value in a small file.

    Raises:
        OSError: it cannot be read, or is no regular file: a pipe would be waited for, and a device never ends.
        ValueError: it is larger than 1 MiB, or holds no JSON.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(path))
        data = os.read(descriptor, MOST_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES} bytes")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
