"""Which commit a measurement was made on.

Flow: git -> one word.
"""

from __future__ import annotations

import subprocess

from servekit.paths import ROOT


def commit() -> str:
    """The commit of this checkout, with a mark when files differ from it."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"
