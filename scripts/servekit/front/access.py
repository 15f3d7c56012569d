"""Who may come in: the name of a request's key, and the key that TorchServe asks for behind the front.

Flow: the file of named keys (if any) and TorchServe's key file -> `Access.admitted(header)` -> (name, inner key).
TorchServe knows one key, which it makes anew at every start; it still asks for it behind the front, so that its ports
stay closed to other users of the machine.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from llava_wire.system.inner import DRAIN_FILE
from servekit.front.settings import FrontSettings
from servekit.named_keys import NamedKeys


class Access:
    """The keys of one server."""

    def __init__(self, settings: FrontSettings) -> None:
        self._key_file = Path(settings.key_file)
        self._keys = NamedKeys(Path(settings.keys) if settings.keys else None)
        self._drain = Path(settings.duty) / DRAIN_FILE
        self._told = ""
        self._inner: tuple[tuple[int, ...], str] = (), ""

    def inner_key(self) -> str:
        """The key that TorchServe asks for now; empty while it has none."""
        try:
            seen = os.stat(self._key_file)
            mark = (seen.st_mtime_ns, seen.st_size, seen.st_ino)
            if mark != self._inner[0]:
                self._inner = mark, str(json.loads(self._key_file.read_text("utf-8"))["inference"]["key"])
        except (OSError, ValueError, KeyError, TypeError):
            self._inner = (), ""
        return self._inner[1]

    def admitted(self, authorization: str | None) -> tuple[str | None, str]:
        """The name of a call's key, or None; and the inner key."""
        inner = self.inner_key()
        name = self._keys.name_of(authorization, inner or None)
        self._tell()
        return name, inner

    def stopping(self) -> bool:
        """Whether the server takes nothing in any more."""
        return os.path.exists(self._drain)

    def refresh(self) -> None:
        """Looks at the file of keys also while nobody calls: how long it has been bad counts from then."""
        self._keys.refresh()
        self._tell()

    def _tell(self) -> None:
        if self._keys.trouble != self._told:
            self._told = self._keys.trouble
            print(f"{self._told or 'keys: read again'}", file=sys.stderr, flush=True)
