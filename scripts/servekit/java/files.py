"""What Java reads at its start, in a form that it reads right wherever the checkout lies.

Flow: properties -> a file of plain ASCII; log settings -> the server's scratch folder, whose path is plain, with a way
to the log folder, whose path need not be.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from servekit.paths import LOG_CONFIG, LOGGING_CONFIG

_PLAIN = re.compile(r"[A-Za-z0-9/._-]+")
_PATH_KEYS = ("metrics_config", "certificate_file", "private_key_file")
"""Values that are paths of ours; the others stand as config.properties has them, escapes included."""


def is_plain(path: str) -> bool:
    """Whether a path means itself to everything that reads it: log4j splits at commas, reads `%d` and `${...}`."""
    return _PLAIN.fullmatch(path) is not None


def write_properties(path: Path, properties: Mapping[str, str]) -> None:
    """Writes a properties file: Java reads such files as Latin-1, and `\\` as the begin of an escape."""
    lines = (f"{key}={_escaped(value, is_path=key in _PATH_KEYS)}\n" for key, value in properties.items())
    path.write_text("".join(lines), encoding="ascii")


def lay_out(scratch: Path, logs: Path) -> tuple[Path, Path]:
    """Puts Java's log settings into the scratch folder.

    Returns:
        log4j's settings, and the log folder by a path that log4j reads right.
    """
    shutil.copyfile(LOG_CONFIG, scratch / LOG_CONFIG.name)
    shutil.copyfile(LOGGING_CONFIG, scratch / LOGGING_CONFIG.name)
    way = scratch / "logs"
    way.symlink_to(logs, target_is_directory=True)
    return scratch / LOG_CONFIG.name, way


def java_options(vmargs: str, scratch: Path) -> str:
    """The options of Java with those that name files of a server's own."""
    return f"{vmargs} -Djava.util.logging.config.file={scratch / LOGGING_CONFIG.name} -XX:ErrorFile=logs/java_crash.log"


def _escaped(value: str, *, is_path: bool) -> str:
    if is_path:
        value = value.replace("\\", "\\\\")
        value = f"\\{value}" if value.startswith(" ") else value
    units = value.encode("utf-16-be")
    codes = (int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2))
    return "".join(chr(code) if 32 <= code < 127 else f"\\u{code:04x}" for code in codes)
