"""Where things are in a checkout, and the one exception that a script turns into a line and exit code 1.

Flow: a model's name -> its YAML, its archive; a server's name -> its run folder.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HANDLER_ROOT = ROOT / "handler"
MODEL_STORE = ROOT / "model_store"
RUN_ROOT = ROOT / ".run"
CONFIG = ROOT / "config.properties"
METRICS_CONFIG = ROOT / "conf" / "metrics.yaml"
LOG_CONFIG = ROOT / "conf" / "log4j2.xml"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Trouble(Exception):
    """Something that the user can mend; the message is one line: what was found, what is needed, what to do."""


def model_names() -> list[str]:
    """The servable models: one YAML each."""
    return sorted(path.stem for path in MODEL_STORE.glob("*.yaml"))


def model_yaml(model: str) -> Path:
    """The settings file of a model."""
    path = MODEL_STORE / f"{model}.yaml"
    if not _NAME.fullmatch(model) or not path.is_file():
        raise Trouble(
            f"model: got {model!r}, allowed {', '.join(model_names())}; add model_store/<name>.yaml for a new one"
        )
    return path


def archive(model: str) -> Path:
    """The model archive that TorchServe loads."""
    return MODEL_STORE / f"{model}.mar"


def run_folder(name: str) -> Path:
    """The private folder of one server."""
    if not _NAME.fullmatch(name):
        raise Trouble(f"name: got {name!r}, allowed letters, digits, '.', '_' and '-'; choose another name")
    return RUN_ROOT / name


def shown(path: Path) -> str:
    """A path as a user types it: relative to the checkout when inside it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
