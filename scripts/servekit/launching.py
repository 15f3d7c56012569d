"""TorchServe's process: its command line, its environment, and the short folder that its sockets need.

Flow: models, folders, properties, environment -> a clean environment and an explicit list of archives -> the process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from llava_wire.system.inner import DUTY_VARIABLE
from servekit import devices
from servekit.drain import DUTY_FOLDER
from servekit.java.files import is_plain, lay_out
from servekit.paths import SetupError

_JAVA_PROCESS = Path(__file__).with_name("java") / "process.py"
_WORKER_PATH = Path(__file__).with_name("java") / "worker_path.py"

NAMED_KEYS_VARIABLE = "LLAVA_GAZE_NAMED_KEYS"
"""Tells the workers that the names of keys come from the front and may be believed."""
_SOCKET_ROOM = 60
"""Longest scratch path in characters: worker sockets live below it and may have 107 in all."""


def scratch_folder() -> Path:
    """A short private folder for archives, sockets and the pid file; its path has plain characters only."""
    try:
        chosen = tempfile.gettempdir()
    except FileNotFoundError:  # none that can be written
        chosen = os.environ.get("TMPDIR", "/tmp")
    for parent in (chosen, "/tmp"):
        if len(parent) <= _SOCKET_ROOM - 12 and is_plain(parent) and os.access(parent, os.W_OK):
            return Path(tempfile.mkdtemp(prefix="lgaze-", dir=parent))
    raise SetupError(
        f"TMPDIR: got {chosen!r}, expected a writable folder of at most {_SOCKET_ROOM - 12} characters, "
        "A-Z a-z 0-9 . _ - / only (worker sockets have a length limit); set TMPDIR to another one"
    )


def worker_path(scratch: Path) -> Path:
    """A folder for PYTHONPATH that keeps a checkout's scripts out of workers (`servekit.java.worker_path`)."""
    folder = scratch / "path"
    folder.mkdir()
    shutil.copyfile(_WORKER_PATH, folder / "sitecustomize.py")
    return folder


def launch(
    models: Sequence[str],
    store: Path,
    folder: Path,
    scratch: Path,
    config: Path,
    env: Mapping[str, str],
    java_home: Path,
) -> subprocess.Popen[bytes]:
    """Starts TorchServe in a process group of its own.

    Args:
        models, store: archives, by name, and their folder.
        folder: the run folder; scratch: the temporary one.
        config: its properties.
        env: the environment; what would change TorchServe or the archive's packages is taken out.
    """
    clean = {key: value for key, value in devices.sanitised(env).items() if not key.startswith("TS_")}
    log_config, logs = lay_out(scratch, folder / "logs")
    clean |= {
        # Nothing else: a checkout's packages would stand in for the archive's.
        "PYTHONPATH": str(worker_path(scratch)),
        # Java knows paths by the locale's encoding: with "C" a path with other letters than ASCII's is none.
        "LC_ALL": "C.UTF-8",
        "JAVA_HOME": str(java_home),
        "TMPDIR": str(scratch),
        "TEMP": str(scratch),
        "LOG_LOCATION": str(logs),
        "METRICS_LOCATION": str(logs),
        DUTY_VARIABLE: str(folder / DUTY_FOLDER),
        # The worker never fetches anything: weights are a folder, and a missing file must be an error, not a download.
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-P", str(_JAVA_PROCESS), "ts.model_server", "--start", "--foreground", "--ncs"]
    command += ["--log-config", str(log_config), "--ts-config", str(config), "--model-store", str(store)]
    command += ["--models", *(f"{model}={model}.mar" for model in models)]
    # For appending: what is trimmed meanwhile (`servekit.java.trimming`) must not leave a hole.
    with (folder / "logs" / "console.log").open("ab") as console:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=clean,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
