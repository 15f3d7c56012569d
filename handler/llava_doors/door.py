"""A door: how a method, a check, a family or a metric comes in, from this house or from any installed package.

Flow: modules of the door's own package, and entry points of its group -> `Declaration`s by name -> `Door.find`, for
whoever lists them (no torch) -> `Door.load`, the class that does the work.

A package of somebody else adds one with an entry point of the group whose value is a `Declaration`:

    [project.entry-points."llava_gaze.methods"]
    mine = "my_package.my_method:DECLARATION"
"""

from __future__ import annotations

import importlib
import math
import pkgutil
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Literal

from llava_wire.errors import nearest
from llava_wire.limits import MAX_INTEGER, MAX_PIECE_CHARS
from llava_wire.quantity import Quantity

_KINDS: Mapping[str, type | tuple[type, ...]] = {"text": str, "number": (int, float), "integer": int, "switch": bool}
_IN_WORDS = {"text": "text", "number": "a number", "integer": "a whole number", "switch": "true or false"}


_LARGEST_EXACT = 2**53
_LONGEST_LIST = 4096


class DoorError(ValueError):
    """A name that no door knows, parameters that do not fit, or a package that declares nonsense."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method, check, family or metric.

    Args:
        name: as it is written in options.
        kind: of its values; "steps" are "all" or a list of numbers from 0, each once; "lists" an object of such lists,
            each with a number for its name.
        default: the value where none is given.
        summary: one sentence.
        choices: the only values of a text, where there are some.
        above: what a number must be greater than, where there is a bound.
        up_to: the largest value of a number, where there is one.
    """

    name: str
    kind: Literal["text", "number", "integer", "switch", "steps", "lists"]
    default: Any
    summary: str
    choices: tuple[str, ...] = ()
    above: float | None = None
    up_to: float | None = None

    def parse(self, value: Any, path: str) -> Any:
        """A value that was given, as the code behind the door gets it: lists as tuples, names of lists as numbers.

        Args:
            path: what to call it in errors.

        Raises:
            DoorError: a value of another kind, or out of bounds.
        """
        if self.kind == "steps":
            return value if value == "all" else _indices(value, path, '"all" or a list')
        if self.kind == "lists":
            return _lists(value, path)
        if self.kind == "integer" and isinstance(value, float) and value.is_integer():
            value = int(value)  # 3.0 is a whole number, as JSON Schema has it
        if not isinstance(value, _KINDS[self.kind]) or (self.kind != "switch" and isinstance(value, bool)):
            raise DoorError(f"{path}: got {value!r:.80}, expected {_IN_WORDS[self.kind]}; correct it")
        if isinstance(value, str):
            _check_text(value, path)
        if self.choices and value not in self.choices:
            near = nearest(str(value), list(self.choices))
            raise DoorError(f"{path}: got {value!r:.80}, expected one of {list(self.choices)}{near}")
        number: Any = value
        if self.kind == "number" and not abs(number) <= sys.float_info.max:
            raise DoorError(f"{path}: got {value!r:.80}, expected a finite number; correct it")
        if self.above is not None and not self.above < number <= sys.float_info.max:
            least = f"whole number of at least {math.floor(self.above) + 1}"
            expected = least if self.kind == "integer" else f"finite number above {self.above:g}"
            raise DoorError(f"{path}: got {value!r:.80}, expected a {expected}; correct it")
        if self.up_to is not None and number > self.up_to:
            raise DoorError(f"{path}: got {value!r:.80}, expected up to {self.up_to}; lower it")
        return _plain(value)


@dataclass(frozen=True)
class Variant:
    """What a method's maps are instead where a parameter has a certain value."""

    parameter: str
    value: str | float | int | bool
    quantity: Quantity


@dataclass(frozen=True)
class Declaration:
    """What is known of a method, check, family or metric before it is loaded.

    Args:
        name: unique behind its door, lower case with underscores.
        summary: one sentence for people.
        implementation: "package.module:Class".
        parameters: what may be set.
        quantity: what its maps are, of a method.
        variants: what they are with other values of its parameters, where that differs.
        traits: what else is said of it, by name: of a metric "higher_is_better" and "needs_model", of a family
            "model_types", of a method "heads", "streams", "averages" and "columns".
    """

    name: str
    summary: str
    implementation: str
    parameters: tuple[Parameter, ...] = ()
    quantity: Quantity | None = None
    variants: tuple[Variant, ...] = ()
    traits: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_of_text(self) -> bool:
        """Whether a method's columns are tokens of prompt and answer, and no patches."""
        return bool(self.traits.get("columns") == "text")

    def parse(self, given: Mapping[str, Any], path: str = "parameters") -> dict[str, Any]:
        """Every parameter's value.

        Args:
            given: those that were set, by name.
            path: what to call them in errors.

        Raises:
            DoorError: a name that there is not, or a value of another kind.
        """
        known = {one.name: one for one in self.parameters}
        for name in given:
            if name not in known:
                expected = f"one of {sorted(known)}" if known else "none; leave it out"
                raise DoorError(
                    f"{path}.{name!s:.80}: got a parameter that {self.name!r} does not have, expected {expected}"
                    f"{nearest(str(name), list(known))}"
                )
        return {
            name: one.parse(given[name], f"{path}.{name}") if name in given else one.default
            for name, one in known.items()
        }

    def quantity_with(self, parameters: Mapping[str, Any]) -> Quantity | None:
        """What maps are that were made with these values of its parameters."""
        for one in self.variants:
            if parameters.get(one.parameter) == one.value:
                return one.quantity
        return self.quantity


def _check_text(text: str, path: str) -> None:
    """Refuses a text that a record could not hold.

    Raises:
        DoorError: naming the parameter.
    """
    if len(text) > MAX_PIECE_CHARS:
        raise DoorError(f"{path}: got {len(text)} characters, expected up to {MAX_PIECE_CHARS}; shorten it")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DoorError(f"{path}: got half of a surrogate pair, expected text that UTF-8 can hold; mend it") from None


def _indices(value: Any, path: str, allowed: str = "a list") -> tuple[int, ...]:
    """Numbers from 0, ascending, each once.

    Raises:
        DoorError: naming the parameter.
    """
    listed = value if isinstance(value, list | tuple) else ()
    found = [_index(one) for one in listed[:_LONGEST_LIST]]
    numbers = sorted({one for one in found if one is not None})
    if not listed or len(numbers) < len(listed):
        raise DoorError(
            f"{path}: got {value!r:.80}, expected {allowed} of 1 to {_LONGEST_LIST} whole numbers from 0, each once; "
            "correct it"
        )
    return tuple(numbers)


def _index(value: Any) -> int | None:
    """A whole number from 0, or None. 3.0 is one, as JSON Schema has it."""
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    return number if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= MAX_INTEGER else None


def _lists(value: Any, path: str) -> dict[int, tuple[int, ...]]:
    """Lists of numbers from 0, each by a number from 0: JSON writes such a name as text.

    Raises:
        DoorError: naming the parameter.
    """
    if not isinstance(value, Mapping) or len(value) > _LONGEST_LIST:
        raise DoorError(f"{path}: got {value!r:.80}, expected an object of lists by number; correct it")
    found: dict[int, tuple[int, ...]] = {}
    for name, listed in value.items():
        number = int(name) if isinstance(name, str) and re.fullmatch("0|[1-9][0-9]{0,8}", name) else name
        if _index(number) is None or number in found:
            raise DoorError(f"{path}: got the name {name!r:.80}, expected whole numbers from 0, each once; correct it")
        found[number] = _indices(listed, f"{path}.{name!s:.80}")
    return found


def _plain(value: Any) -> Any:
    """A number that tensors can be computed with: whole ones beyond float64's own are taken as floats."""
    return float(value) if isinstance(value, int) and abs(value) > _LARGEST_EXACT else value


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
                f"{path or self.what}: got {name!r:.80}, expected one of {sorted(known)}{nearest(name, list(known))}"
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
CHECKS = Door("check", "llava_gaze.checks", "llava_doors.checks")
FAMILIES = Door("family", "llava_gaze.families", "llava_doors.families")
