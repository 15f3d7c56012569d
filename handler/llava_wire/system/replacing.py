"""Files that are written whole or not at all, in folders where strangers may write too.

Flow: `replacing(path)` -> a new file beside it, under a name that nobody can know before -> renamed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A new, empty file in `target`'s folder, which takes its place when the block ends without an error.

    It is created exclusively, so that no link that somebody planted is written through. A link at `target` itself is
    replaced, and what it points to stays. The file gets the mode of the one that was there, else the process's usual.

    Raises:
        OSError: the folder cannot be written to.
    """
    # A name of its own: two processes at a time, or a name of the greatest length, meet no other file.
    partial = target.with_name(f".{secrets.token_hex(8)}.partial")
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666))
    try:
        yield partial
        if target.is_file() and not target.is_symlink():
            partial.chmod(target.stat().st_mode & 0o7777)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
