"""Where a running server of a checkout keeps its files, for the server that writes them and the clients that look."""

from __future__ import annotations

from pathlib import Path

RUN_FOLDER = ".run"
"""In a checkout: the folder of all of its servers; each has a folder of its own there."""
_ROOT = Path(__file__).resolve().parents[3]
_STATE_FILE = "server.json"


def state_file(folder: Path) -> Path:
    """What a server says of itself, in its folder."""
    return folder / _STATE_FILE


def state_files() -> list[Path]:
    """Those of all servers of the checkout that this package is installed from, by name."""
    return sorted((_ROOT / RUN_FOLDER).glob(f"*/{_STATE_FILE}"))
