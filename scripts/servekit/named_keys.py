"""Keys of one's own that stay the same: a private file of names and keys, read again whenever it changes.

Flow: file -> `NamedKeys` -> the header that came with a request -> the name of its key, or None.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from servekit.paths import SetupError

OWN = "server"
"""What the key is called that TorchServe makes at every start, which the tools of this machine use."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(r"[\x21-\x7e]{16,256}")
_BEARER = re.compile(r"Bearer[ \t]+(\S+)[ \t]*")


_BAD_S = 60.0
"""How long keys outlive a file that has become bad: long enough to write it anew, too short to lean on."""


class _Once(yaml.SafeLoader):
    """Mappings in which every name stands once: of two keys of one name nobody could say which counts."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            self.flatten_mapping(node)
            names = Counter(name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode))
            for name, times in names.items():
                if times > 1:
                    raise SetupError(
                        f"keys: got the name {name[:80]!r} twice, expected once; rename one or take it away"
                    )
        return super().construct_mapping(node, deep)


def read_keys_file(path: Path) -> dict[str, str]:
    """Names and keys of a file, checked.

    Raises:
        SetupError: no such file, one that others may read, or content that is not `keys:` with names and keys.
    """
    try:
        mode = path.stat().st_mode
        content = yaml.load(path.read_text("utf-8"), _Once)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        # Of a YAML error the place alone: its text quotes the file.
        reason = error.strerror if isinstance(error, OSError) else f"not YAML, {_mark(error)}"
        raise SetupError(f"keys: got {path} ({reason}), expected a readable YAML file; mend it") from None
    if mode & 0o077:
        raise SetupError(f"keys: got {path} with mode {mode & 0o777:o}, expected 600; run: chmod 600 {path}")
    section = content.get("keys") if isinstance(content, dict) and set(content) == {"keys"} else None
    if not isinstance(section, dict):
        raise SetupError(f"keys: got no mapping `keys:` alone in {path}, expected one of names to keys; mend it")
    for name, key in section.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name == OWN:
            raise SetupError(
                f"keys: got the name {str(name)[:80]!r}, expected 1 to 64 letters, digits, '.', '_' and '-' (quote "
                f"numbers), not {OWN!r}; rename it"
            )
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise SetupError(
                f"keys.{name}: got a key that is not 16 to 256 printable ASCII characters without blanks, "
                "expected such text in quotes; make one: python -c 'import secrets; print(secrets.token_urlsafe(24))'"
            )
    if len(set(section.values())) != len(section):
        raise SetupError(f"keys: got one key under two names in {path}, expected a key for each; make another")
    return dict(section)


class NamedKeys:
    """Whose key a request carries.

    Args:
        path: the file, read again when it changes, or None for the server's own key alone. While it is missing,
            damaged or not private the keys stay as they were for `_BAD_S`; after that none of them opens anything until
            it is good again.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self._bad_since: float | None = None
        self._digests: dict[str, bytes] = {}
        self.trouble = ""

    def name_of(self, authorization: str | None, own_key: str | None) -> str | None:
        """The name of the key in an Authorization header; None for none, and for a key that nobody has.

        Every key is compared, each in constant time, so that the time tells nothing about them.

        Args:
            authorization: "Bearer KEY".
            own_key: the server's own key of the moment, when there is one.
        """
        match = _BEARER.fullmatch(authorization or "")
        if match is None:
            return None
        self.refresh()
        known = self._digests if own_key is None else {**self._digests, OWN: _digest(own_key)}
        given = _digest(match[1])
        found = [name for name, digest in known.items() if hmac.compare_digest(digest, given)]
        return found[0] if found else None

    def refresh(self) -> None:
        """Reads the file again when it changed or was bad."""
        if self._path is None:
            return
        try:
            seen = self._path.stat()
            # With mode and time of change, which a chmod moves.
            mark: tuple[int, ...] = (seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size, seen.st_ino, seen.st_mode)
        except OSError:
            mark = ()
        if mark == self._seen and self._bad_since is None:
            return
        self._seen = mark
        try:
            self._digests = {name: _digest(key) for name, key in read_keys_file(self._path).items()}
            self._bad_since, self.trouble = None, ""
        except SetupError as trouble:
            self.trouble = str(trouble)
            now = time.monotonic()
            self._bad_since = now if self._bad_since is None else self._bad_since
            if now - self._bad_since >= _BAD_S:
                self._digests = {}
                self.trouble += f" (bad for {_BAD_S:.0f} s: its keys open nothing until it is mended)"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _mark(error: Any) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}" if mark is not None else "not UTF-8"
