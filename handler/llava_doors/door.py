"""A door: how a method, a family or a metric comes in, from this house or from any installed package.

Flow: modules of the door's own package, and entry points of its group -> `Declaration`s by name -> `Door.find`, for
whoever lists them (no torch) -> `Door.load`, the class that does the work.

A package of somebody else adds one with an entry point of the group whose value is a `Declaration`:

    [project.entry-points."llava_gaze.methods"]
    mine = "my_package.my_method:DECLARATION"
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Literal

from llava_wire.errors import nearest
from llava_wire.quantity import Quantity

_KINDS: Mapping[str, type | tuple[type, ...]] = {"text": str, "number": (int, float), "integer": int, "switch": bool}


class DoorError(ValueError):
    """A name that no door knows, parameters that do not fit, or a package that declares nonsense."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method, family or metric.

    Args:
        name: as it is written in options.
        kind: of its values.
        default: the value where none is given.
        summary: one sentence.
    """

    name: str
    kind: Literal["text", "number", "integer", "switch"]
    default: str | float | int | bool
    summary: str


@dataclass(frozen=True)
class Declaration:
    """What is known of a method, family or metric before it is loaded.

    Args:
        name: unique behind its door, lower case with underscores.
        summary: one sentence for people.
        implementation: "package.module:Class".
        parameters: what may be set.
        quantity: what its maps are, of a method.
        traits: what else is said of it, by name: of a metric "higher_is_better" and "needs_model", of a family
            "model_types".
    """

    name: str
    summary: str
    implementation: str
    parameters: tuple[Parameter, ...] = ()
    quantity: Quantity | None = None
    traits: Mapping[str, Any] = field(default_factory=dict)

    def parse(self, given: Mapping[str, Any], path: str = "parameters") -> dict[str, Any]:
        """Every parameter's value.

        Args:
            given: those that were set, by name.
            path: what to call them in errors.

        Raises:
            DoorError: a name that there is not, or a value of another kind.
        """
        known = {one.name: one for one in self.parameters}
        for name, value in given.items():
            if name not in known:
                raise DoorError(
                    f"{path}.{name}: got a parameter that {self.name!r} does not have, expected one of "
                    f"{sorted(known) or 'none'}{nearest(str(name), list(known))}"
                )
            kind = known[name].kind
            if not isinstance(value, _KINDS[kind]) or (kind != "switch" and isinstance(value, bool)):
                raise DoorError(f"{path}.{name}: got {value!r:.80}, expected a {kind}; correct it")
        return {name: given.get(name, one.default) for name, one in known.items()}


class Door:
    """All declarations of one kind.

    Args:
        what: what comes in, in one word: "method".
        group: of entry points.
        package: whose modules each have a `DECLARATION`.
    """

    def __init__(self, what: str, group: str, package: str) -> None:
        self.what, self.group, self._package = what, group, package
        self._known: dict[str, Declaration] | None = None

    def known(self) -> dict[str, Declaration]:
        """All declarations by name; this house's first.

        Raises:
            DoorError: an entry point that cannot be loaded, or that declares something else or a name that is taken.
        """
        if self._known is None:
            found: dict[str, Declaration] = {}
            for where, one in [*self._own(), *self._others()]:
                if not isinstance(one, Declaration):
                    raise DoorError(f"{where}: got a {type(one).__name__}, expected a Declaration; correct the package")
                if one.name in found:
                    raise DoorError(f"{where}: got the {self.what} {one.name!r} a second time, expected another name")
                found[one.name] = one
            self._known = found
        return self._known

    def find(self, name: str, path: str = "") -> Declaration:
        """The declaration of a name.

        Args:
            path: what to call the name in the error; the door's own word when empty.

        Raises:
            DoorError: naming all that there are.
        """
        known = self.known()
        if name not in known:
            raise DoorError(
                f"{path or self.what}: got {name!r}, expected one of {sorted(known)}{nearest(name, list(known))}"
            )
        return known[name]

    def load(self, name: str) -> Any:
        """An instance of the class behind a name; only here its own imports happen.

        Raises:
            DoorError: there is no such name or class.
        """
        declaration = self.find(name)
        module, _, attribute = declaration.implementation.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)()
        except (ImportError, AttributeError) as error:
            raise DoorError(
                f"{self.what} {name!r}: got {declaration.implementation!r}, which cannot be loaded ({error}), expected "
                "package.module:Class; correct the package"
            ) from error

    def forget(self) -> None:
        """Looks again at the next question, say after a package was installed."""
        self._known = None

    def _own(self) -> Iterable[tuple[str, Any]]:
        package = importlib.import_module(self._package)
        for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda one: one.name):
            module = importlib.import_module(f"{self._package}.{info.name}")
            if (declared := getattr(module, "DECLARATION", None)) is not None:
                yield module.__name__, declared

    def _others(self) -> Iterable[tuple[str, Any]]:
        for point in sorted(entry_points(group=self.group), key=lambda one: one.name):
            where = f"entry point {self.group}: {point.name}"
            try:
                yield where, point.load()
            except Exception as error:  # whatever a stranger's module does while it is imported
                raise DoorError(f"{where}: got {error!r:.200}, expected a module that can be imported") from error


METHODS = Door("method", "llava_gaze.methods", "llava_doors.methods")
FAMILIES = Door("family", "llava_gaze.families", "llava_doors.families")
