"""Workers see no scripts of the checkout, wherever an install names them, and the machine's own start-up code runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from servekit.launching import worker_path
from servekit.paths import HANDLER_ROOT, SCRIPTS

LOOK = """
import importlib.util, sys
print([name for name in ("servekit", "bench", "serve", "llava_wire") if importlib.util.find_spec(name)])
print(getattr(sys, "own_start", False), any(folder.endswith("path") for folder in sys.path))
"""


@pytest.mark.parametrize("own", [False, True])
def test_scripts_are_taken_off_the_path(tmp_path: Path, own: bool) -> None:
    folders = [HANDLER_ROOT, SCRIPTS, tmp_path / "own"]
    if own:
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / "sitecustomize.py").write_text("import sys\nsys.own_start = True\n")
    with_it, without = [
        subprocess.run(
            [sys.executable, "-P", "-c", LOOK],
            env={"PYTHONPATH": os.pathsep.join(map(str, path))},
            capture_output=True,
            text=True,
            check=True,
        )
        for path in ([worker_path(tmp_path), *folders], folders)
    ]
    assert without.stdout.splitlines()[0] == "['servekit', 'bench', 'serve', 'llava_wire']"
    assert with_it.stdout.splitlines() == ["['llava_wire']", f"{own} False"]
    assert with_it.stderr == ""
