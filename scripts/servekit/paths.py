"""Where things are in a checkout, and the one exception that a script turns into a line and exit code 1.

Flow: a model's name -> its YAML, its archive; a server's name -> its run folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HANDLER_ROOT = ROOT / "handler"
SCRIPTS = ROOT / "scripts"
MODEL_STORE = ROOT / "model_store"
CONFIG = ROOT / "config.properties"
METRICS_CONFIG = ROOT / "conf" / "metrics.yaml"
LOG_CONFIG = ROOT / "conf" / "log4j2.xml"
LOGGING_CONFIG = ROOT / "conf" / "logging.properties"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class SetupError(Exception):
    """Something that the user can mend; the message is one line: what was found, what is needed, what to do."""


def with_sources(env: Mapping[str, str], *further: str) -> dict[str, str]:
    """An environment in which another Python finds this checkout's modules, whether they are installed or not.

    Args:
        env: the environment to begin with; what its PYTHONPATH names comes after the checkout's folders.
        further: more folders of the checkout, such as "tests".
    """
    folders = (SCRIPTS, ROOT / "viewer", HANDLER_ROOT, *(ROOT / name for name in further))
    given = [env["PYTHONPATH"]] if env.get("PYTHONPATH") else []
    return {**env, "PYTHONPATH": os.pathsep.join([*map(str, folders), *given])}


def model_names() -> list[str]:
    """The servable models: one YAML each."""
    return sorted(path.stem for path in MODEL_STORE.glob("*.yaml"))


def model_yaml(model: str) -> Path:
    """The settings file of a model."""
    path = MODEL_STORE / f"{model}.yaml"
    if not _NAME.fullmatch(model) or not path.is_file():
        raise SetupError(
            f"model: got {model!r}, expected {', '.join(model_names())}; add model_store/<name>.yaml for a new one"
        )
    return path


def archive(model: str) -> Path:
    """The model archive that TorchServe loads."""
    return MODEL_STORE / f"{model}.mar"


def run_root() -> Path:
    """The folder of all servers of this checkout, also where the packages are those of another one's environment."""
    # Here, because bench.gpu.schedule needs this module where no other folder of the checkout is on the path.
    from llava_wire.system import running

    return ROOT / running.RUN_FOLDER


def run_folder(name: str) -> Path:
    """The private folder of one server."""
    if not _NAME.fullmatch(name):
        raise SetupError(f"name: got {name!r}, expected letters, digits, '.', '_' and '-'; choose another name")
    return run_root() / name


_REFUSALS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOTDIR,
    errno.EISDIR, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE, errno.EEXIST, errno.ENOTEMPTY, errno.EBUSY,
}  # fmt: skip
"""What a file system says that has no room or no right for what is wanted, or not that folder."""


def refusal(error: OSError, folder: Path | None = None) -> SetupError | None:
    """A file system's refusal as a line that says what to do; None for errors of another kind, such as a network's.

    Args:
        folder: where it happened, for errors that name no file: a write that finds no room does not say where.
    """
    if error.errno not in _REFUSALS:
        return None
    # Of a copy or a move the second is what was to be written.
    name = error.filename2 or error.filename
    named = (folder or Path()) / str(name) if name else folder
    place = shown(named) if named else "a file"
    return SetupError(
        f"{place}: got {error.strerror!r}, expected a place that can be read and written, with room; "
        "mend its rights or make room (the checkout's .run and model_store, and TMPDIR, are written to)"
    )


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns what a file system refuses meanwhile into a line that names the folder."""
    try:
        yield
    except OSError as error:
        trouble = refusal(error, folder)
        if trouble is None:
            raise
        raise trouble from error


def shown(path: Path) -> str:
    """A path as a user types it: relative to the checkout when inside it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
