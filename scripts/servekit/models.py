"""A model of this checkout: its YAML, where its weights lie, what its archive says.

Flow: a model's name -> YAML -> `llava_server.load.locate` -> `llava_server.load.checkpoint`, which decide; their
refusals become `SetupError` word for word, so that every script says the same.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from llava_server.ask.settings import ModelSettings, SettingsError, read_document
from llava_server.load.checkpoint import check_files
from llava_server.load.locate import Located, locate
from servekit.paths import SetupError, model_yaml, shown

ARCHIVED_SETTINGS = "model-config.yaml"
EMBEDDED = "weights"
"""Folder inside an archive that holds embedded weights."""


@contextmanager
def as_trouble() -> Iterator[None]:
    """Turns a refusal of the engine's into a line and exit code 1."""
    try:
        yield
    except SettingsError as error:
        raise SetupError(str(error)) from error


def read_model_yaml(model: str) -> dict[str, Any]:
    """The settings of a model: TorchServe's keys and our `handler` section."""
    with as_trouble():
        return read_document(model_yaml(model))


def locate_model(model: str) -> Located:
    """The settings of a model and the one folder of its weights."""
    with as_trouble():
        return locate(model_yaml(model))


def read_archive(model: str, built: Path) -> dict[str, Any]:
    """The settings inside an archive: what a worker will follow, whatever the YAML says by now."""
    if not built.is_file():
        raise SetupError(
            f"archive of {model}: got no {shown(built)}, expected a built one; run: make mar MODEL={model}"
        )
    try:
        with zipfile.ZipFile(built) as file:
            content = yaml.safe_load(file.read(ARCHIVED_SETTINGS))
        settings = ModelSettings.from_dict(content["handler"])
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile, yaml.YAMLError) as error:
        raise SetupError(
            f"archive of {model}: got {shown(built)} with {type(error).__name__} ({str(error)[:200]}), expected "
            f"a whole one; run: make mar MODEL={model} ARGS=--force"
        ) from error
    if settings.name != model:
        raise SetupError(
            f"archive of {model}: got {shown(built)} of the model {settings.name!r}, expected its own; run: make mar "
            f"MODEL={model}"
        )
    return content


def check_archive(model: str, content: dict[str, Any]) -> None:
    """The files that the worker of an archive will read; those inside it were checked when it was built."""
    settings = ModelSettings.from_dict(content["handler"])
    if settings.model_path == EMBEDDED:
        return
    with as_trouble():
        cure = f"put them back, or correct {model}.yaml and run: make mar MODEL={model}"
        check_files(Path(settings.model_path), settings, cure)
