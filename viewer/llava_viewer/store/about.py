"""What a store says of itself: which data were asked about, and how; the run's fingerprint.

Flow: `About` -> run.json, which the first worker writes -> every other one, and every later start, is held against it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from llava_viewer.look.wording import at_revision
from llava_viewer.store.part import StoreError
from llava_wire.errors import beginning
from llava_wire.schema import Model
from llava_wire.system.replacing import replacing

FORMAT, VERSION = "llava-gaze-run", 1
RUN, MODEL = "run.json", "model.json"
_MODEL_KEYS = ("name", "source", "revision", "dtype", "attention", "layers", "heads")
"""What must be equal over a run; devices may differ, since workers share one."""


@dataclass(frozen=True)
class About:
    """A run, before anything was asked.

    Args:
        data: the data's file or folder; images: the folder that paths of images count from.
        digest: sha256 of all items: ids, images' paths, prompts, truth.
        items, chunk: how many there are, and how many a part holds.
        options: of every request.
        asked: "server", or "engine" with what was loaded and how.
        rule: how answers are compared with the expected ones.
        pictures: whether records carry their images.
    """

    data: Path
    images: Path
    digest: str
    items: int
    chunk: int
    options: Mapping[str, Any] = field(default_factory=dict)
    asked: str = "server"
    rule: str = ""
    pictures: bool = False

    @property
    def chunks(self) -> int:
        """How many parts it has when it is finished."""
        return -(-self.items // self.chunk)


_IN_WORDS = {"digest": "DATA (its images, prompts and truth, by their digest)", "pictures": "--keep-images"}
"""What fields are called that nobody has written by their names."""
_PLACES = ("data", "images")
"""Fields that may change: the same data may be mounted elsewhere; the digest says whether they are the same."""


def read_about(folder: Path) -> About:
    """What a store says of itself.

    Raises:
        StoreError: the folder is no store.
    """
    try:
        plain = json.loads((folder / RUN).read_text("utf-8"))
        if plain["format"] != FORMAT or plain["version"] != VERSION:
            raise ValueError(f"{plain['format']} {plain['version']}")
        known = {one.name: plain[one.name] for one in fields(About)}
        about = About(**{**known, "data": Path(known["data"]), "images": Path(known["images"])})
        if about.items < 0 or about.chunk < 1:
            raise ValueError(f"{about.items} items, {about.chunk} a part")
    except OSError as error:
        raise StoreError(f"{folder}: got no {RUN} ({error.strerror}), expected the folder of a run") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StoreError(
            f"{folder / RUN}: got a damaged file ({error!s:.200}), expected what the run wrote; copy it again, or name "
            "another folder"
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        said = f"{type(error).__name__} {error}"
        raise StoreError(f"{folder / RUN}: got {said:.200}, expected {FORMAT} {VERSION}; update llava-gaze") from None
    return about


def is_store(folder: Path) -> bool:
    """Whether a folder is one that a run wrote, or writes."""
    return (folder / RUN).is_file()


def begun(folder: Path, about: About) -> About:
    """Begins a run, or goes on with it where it was begun with the same data and options.

    Returns:
        what the store says of itself.

    Raises:
        StoreError: the folder holds another run, or something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not is_store(folder):
        if any(not path.name.startswith(".") for path in folder.iterdir()) and not is_store(folder):
            raise StoreError(f"--output: got {folder}, which holds other files, expected a new folder or a run's")
        _first(folder / RUN, {"format": FORMAT, "version": VERSION, **asdict(about)})
    there = read_about(folder)
    for name in (one.name for one in fields(About) if one.name not in _PLACES):
        _same(folder, name, getattr(about, name), getattr(there, name))
    return there


def same_model(folder: Path, model: Model) -> None:
    """Holds the model of a record against that of the run's first record.

    Raises:
        StoreError: it is another one, so that the run would be a mixture.
    """
    plain = {name: getattr(model, name) for name in _MODEL_KEYS}
    _first(folder / MODEL, plain)
    there = json.loads((folder / MODEL).read_text("utf-8"))
    for name, value in plain.items():
        _same(folder, f"model.{name}", value, there.get(name))


def model_of(folder: Path) -> str:
    """The name and revision of a run's model, or "" before its first record."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        plain = json.loads((folder / MODEL).read_text("utf-8"))
        return f"{at_revision(plain['name'], plain['revision'])}, {plain['dtype']}"
    return ""


def model_name_of(folder: Path) -> str | None:
    """The name alone, as servers know it; None before the run's first record."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((folder / MODEL).read_text("utf-8"))["name"])
    return None


def _first(path: Path, plain: Mapping[str, Any]) -> None:
    """Writes a file, whole, unless another process was first."""
    if path.exists():
        return
    # Hidden, since a second worker that starts meanwhile looks for other files in the folder.
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with replacing(beside) as partial:
        partial.write_text(json.dumps(plain, indent=1, default=str), encoding="utf-8")
    with contextlib.suppress(FileExistsError):
        os.link(beside, path)
    beside.unlink()


def _same(folder: Path, name: str, got: Any, expected: Any) -> None:
    if json.loads(json.dumps(got)) != expected:
        raise StoreError(
            f"{_IN_WORDS.get(name, name)}: got {beginning(got)}, expected {beginning(expected)}, with which the run in "
            f"{folder} was begun; say the same, or name another -o"
        )
