"""Which family a checkpoint belongs to: the only place that asks the door.

Flow: `model_type` of config.json -> the families that declare it -> the first whose `check` takes the configuration,
or a `SettingsError` with the words of the first that did not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llava_doors.door import FAMILIES, DoorError
from llava_doors.family import Family, FamilyError
from llava_server.ask.settings import SettingsError


@contextmanager
def as_settings_errors() -> Iterator[None]:
    """Refusals of families and of the door as refusals of a checkpoint, in the same words."""
    try:
        yield
    except (FamilyError, DoorError) as error:
        raise SettingsError(str(error)) from error


def model_types() -> dict[str, tuple[str, ...]]:
    """Every `model_type` that some family declares, with the names of those families; needs no torch.

    Raises:
        SettingsError: a package declares nonsense.
    """
    found: dict[str, tuple[str, ...]] = {}
    with as_settings_errors():
        for name, declaration in FAMILIES.known().items():
            for kind in declaration.traits.get("model_types", ()):
                found[kind] = (*found.get(kind, ()), name)
    return found


def sections(kind: str) -> tuple[str, ...]:
    """The keys of config.json that every checkpoint of this `model_type` has an object at."""
    return tuple(
        dict.fromkeys(
            key for name in model_types().get(kind, ()) for key in FAMILIES.find(name).traits.get("sections", ())
        )
    )


def family_of(config: Any) -> Family:
    """The family of a configuration, its `check` done.

    Raises:
        SettingsError: no family takes it.
    """
    return _first(str(config.model_type), lambda family: config)


def family_in(folder: Path, kind: str) -> Family:
    """The family of a folder's configuration, which is its `config`.

    Args:
        folder: of config.json.
        kind: its `model_type`.

    Raises:
        SettingsError: no family takes it, or transformers cannot read it.
    """

    def read(family: Family) -> Any:
        try:
            return family.read_config(folder)
        except Exception as error:
            raise SettingsError(
                f"config.json: got {reason(error)}, expected what this version of transformers reads; mend {folder}"
            ) from error

    return _first(kind, read)


def reason(error: Exception) -> str:
    """An error of a library in one line."""
    return f"{type(error).__name__} ({' '.join(str(error).split())[:200]})"


def _first(kind: str, read: Any) -> Family:
    names = model_types().get(kind, ())
    if not names:
        raise SettingsError(f"config.model_type: got {kind!r}, expected {allowed_types()}")
    first: FamilyError | None = None
    with as_settings_errors():
        for name in names:
            family: Family = FAMILIES.load(name)
            try:
                family.check(read(family))
            except FamilyError as error:
                first = first or error
                continue
            return family
        assert first is not None
        raise first


def allowed_types() -> str:
    """All that may stand at `model_type`, for a sentence."""
    return ", ".join(repr(kind) for kind in sorted(model_types()))
