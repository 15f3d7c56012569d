"""Where things are in a checkout, and the one exception that a script turns into a line and exit code 1.

Flow: a model's name -> its YAML, archive, weights; a server's name -> its run folder.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
HANDLER_ROOT = ROOT / "handler"
MODEL_STORE = ROOT / "model_store"
WEIGHTS_ROOT = MODEL_STORE / "weights"
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


def read_model_yaml(model: str) -> dict[str, Any]:
    """The settings of a model: TorchServe's keys and our `handler` section."""
    path = model_yaml(model)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("handler"), dict):
        raise Trouble(f"{path.name}: got no `handler` section, allowed a mapping that has one; see llava-shapes.yaml")
    return content


def weights_folder(model: str, section: dict[str, Any]) -> Path:
    """The folder with config, weights, tokenizer and processor: `model_path`, else beside the YAML, else downloaded."""
    if section.get("model_path"):
        return MODEL_STORE / str(section["model_path"])
    beside = MODEL_STORE / str(section.get("source", model))
    return beside if "/" not in str(section.get("source", "")) and beside.is_dir() else WEIGHTS_ROOT / model


def require_weights(model: str, section: dict[str, Any]) -> Path:
    """The weights folder, checked to hold a model."""
    folder = weights_folder(model, section)
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        cure = "correct handler.model_path" if section.get("model_path") else f"run: make download MODEL={model}"
        raise Trouble(
            f"weights of {model}: got none in {shown(folder)}, allowed a folder with config.json and *.safetensors; "
            f"{cure}"
        )
    return folder


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
