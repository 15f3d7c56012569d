"""Where a model is: the folder of its weights, its settings, and the device that they mean on this machine.

Flow: model_store/<model>, its YAML, or any checkpoint folder -> (folder, `ModelSettings`) -> device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from llava_server.settings import ModelSettings, SettingsError


def device_of(settings: ModelSettings, wanted: str | None = None) -> str:
    """The device that is asked for, or that the settings mean on this machine.

    Raises:
        SettingsError: for a GPU that is not there.
    """
    device = wanted or settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SettingsError(f"device: got {device!r}, allowed 'cpu': PyTorch sees no CUDA device; set device: cpu")
    return device


def resolve(path: Path, settings: Mapping[str, Any] | None = None) -> tuple[Path, ModelSettings]:
    """The folder of the weights and the settings for model_store/<model>, its YAML, or a bare checkpoint folder.

    Raises:
        SettingsError: when neither a folder nor a YAML is there.
    """
    document = path if path.suffix in (".yaml", ".yml") else path.with_name(path.name + ".yaml")
    if settings is not None:
        chosen = ModelSettings.from_dict(settings)
    elif document.is_file():
        chosen = ModelSettings.from_yaml(document)
    elif path.is_dir():
        chosen = replace(ModelSettings(), name=path.name)
    else:
        raise SettingsError(f"model: got {path}, allowed a checkpoint folder or a model's YAML; see model_store/*.yaml")
    if chosen.model_path:
        # Named weights that are not there must not become other weights.
        candidates = [document.parent / chosen.model_path]
    else:
        candidates = [] if path == document else [path]
        candidates += [document.parent / chosen.source] if chosen.source else []
        candidates += [document.parent / "weights" / chosen.name]
    for folder in candidates:
        if (folder / "config.json").is_file():
            return folder, chosen
    if chosen.model_path:
        raise SettingsError(
            f"weights: got none at handler.model_path ({chosen.model_path!r}), allowed a checkpoint folder, absolute "
            "or relative to the YAML's; correct the path, or put them back"
        )
    raise SettingsError(
        f"weights: got none for {chosen.name}, allowed a checkpoint folder; run: make download MODEL={chosen.name}"
    )
