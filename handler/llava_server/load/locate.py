"""Where a model's weights lie: decided here alone, for the engine, the server's scripts, estimate and download.

Flow: model_store/<model>, its YAML, or any checkpoint folder -> `Located`: settings, folder, and what to do when
nothing is there. Only names are looked at; `llava_server.load.checkpoint` reads what is in the folder.

A model with a YAML is its YAML: its name is the file's, and the folder is the first of these that the YAML says:
    handler.model_path                      that folder, absolute or relative to the YAML's
    handler.source without a slash          the folder of that name beside the YAML
    handler.source with one (a repository)  weights/<name> beside the YAML, which `make download` fills
    neither                                 <name> beside the YAML, else weights/<name>
Anything else that the same name could mean is refused, for everybody. Without a YAML the folder is the path itself.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from llava_server.ask.settings import ModelSettings, SettingsError

Origin = Literal["model_path", "source", "hub", "unnamed", "given"]
"""What says where the weights are: a key of the YAML, a repository that is fetched, no key, or the caller's path."""


@dataclass(frozen=True)
class Located:
    """A model's settings and the one folder of its weights, which need not be there.

    Args:
        settings: from the YAML, from the caller, or the defaults.
        folder: absolute; links in it are kept.
        origin: what says that it is this folder.
        document: the YAML, absolute; None without one.
    """

    settings: ModelSettings
    folder: Path
    origin: Origin
    document: Path | None

    @property
    def configuration(self) -> Path:
        """A folder whose config.json describes the model: the weights', or a kept one before they are fetched."""
        if self.origin != "hub" or self.document is None or holds_model(self.folder):
            return self.folder
        kept = self.document.parent / "configs" / self.settings.name
        return kept if holds_model(kept) else self.folder

    @property
    def cure(self) -> str:
        """What to do when no weights, or half of them, are there; names a command only where it exists."""
        if self.document is None:
            return "correct the path, or put them back"
        if self.origin == "model_path":
            return (
                f"correct handler.model_path ({self.settings.model_path!r}) in {self.document.name}, or put them back"
            )
        if self.origin == "source":
            return f"correct handler.source ({self.settings.source!r}) in {self.document.name}, or put them back"
        if self.origin == "unnamed":
            return f"name their folder as handler.model_path in {self.document.name}"
        if is_checkout(self.document.parent):
            return f"run: make download MODEL={self.settings.name}"
        words = ["hf", "download", self.settings.source]
        words += ["--revision", self.settings.revision] if self.settings.revision else []
        return f"run: {shlex.join([*words, '--local-dir', str(self.folder)])}"


def locate(path: str | os.PathLike[str], settings: Mapping[str, Any] | None = None) -> Located:
    """The settings and the weights' folder of a model.

    Args:
        path: model_store/<model>, model_store/<model>.yaml, or any checkpoint folder.
        settings: a `handler:` section to use in place of a YAML's; `path` is then the folder itself, unless it names
            a YAML.

    Raises:
        SettingsError: when the YAML cannot be used, when it leaves open which folder it means, or when `path` is
            neither a folder nor a YAML's.
    """
    whole = Path(os.path.abspath(path))
    document = whole if whole.suffix == ".yaml" else whole.parent / f"{whole.name}.yaml"
    if settings is not None:
        name = whole.stem if whole == document else whole.name
        chosen = ModelSettings.from_dict({"name": name, **settings})
        return _of_document(document, chosen) if whole == document else _given(whole, chosen)
    if document.is_file():
        return _of_document(document, ModelSettings.from_yaml(document))
    if whole.is_dir():
        return _given(whole, replace(ModelSettings(), name=whole.name))
    raise SettingsError(
        f"model: got {os.fspath(path)!r}, expected a checkpoint folder or a model's YAML (or that without .yaml)"
    )


def holds_model(folder: Path) -> bool:
    """Whether somebody put a model there, whole or not."""
    return any((folder / name).is_file() for name in ("config.json", "adapter_config.json", "model.safetensors"))


def is_checkout(store: Path) -> bool:
    """Whether `make` commands name the models of this folder."""
    root = store.parent
    return store.name == "model_store" and (root / "Makefile").is_file() and (root / "scripts" / "serve.py").is_file()


def _given(folder: Path, settings: ModelSettings) -> Located:
    named = Path(os.path.abspath(folder.parent / settings.model_path)) if settings.model_path else folder
    if not _same(named, folder):
        raise SettingsError(
            f"handler.model_path: got {settings.model_path!r} for the folder {folder}, expected that folder; name one"
        )
    return Located(settings, folder, "given", None)


def _of_document(document: Path, settings: ModelSettings) -> Located:
    store, name, source = document.parent, document.stem, settings.source
    if settings.name != name:
        raise SettingsError(
            f"{document.name}: handler.name: got {settings.name!r}, expected {name!r}, which requests and "
            f"commands call the model; leave it out, or rename the file {settings.name}.yaml"
        )
    beside, fetched = store / name, store / "weights" / name
    origin: Origin
    if settings.model_path:
        folder, origin = store / Path(settings.model_path).expanduser(), "model_path"
    elif "/" in source:
        folder, origin = fetched, "hub"
    elif source:
        folder, origin = store / source, "source"
    else:
        folder, origin = (beside if holds_model(beside) else fetched), "unnamed"
    folder = Path(os.path.abspath(folder))
    others = [beside]
    others += [store / source] if origin == "hub" else []
    others += [fetched] if origin == "unnamed" else []
    for other in others:
        if holds_model(other) and not _same(other, folder):
            raise SettingsError(
                f"{document.name}: got a model in {_shown(other, store)}/, and the settings mean "
                f"{_shown(folder, store)}/; expected one for the name {name}; set handler.model_path: "
                f"{_shown(other, store)} and leave source and revision out if that is the one, else move it away"
            )
    return Located(settings, folder, origin, document)


def _same(one: Path, other: Path) -> bool:
    return one == other or (one.exists() and other.exists() and one.samefile(other))


def _shown(path: Path, store: Path) -> str:
    return str(path.relative_to(store)) if path.is_relative_to(store) else str(path)
