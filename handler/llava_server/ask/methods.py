"""The method of a view: its name and parameters checked against what is behind the door, and what it needs.

Flow: `method` and `parameters` of a view -> `parse_method` -> name and every parameter's value -> `needs_of`, once the
model is known. What is wrong is refused with what is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from llava_doors.asked import AskedView, Shape
from llava_doors.door import METHODS, Declaration, DoorError
from llava_doors.method import Method, Needs
from llava_doors.methods import attention
from llava_server.ask.checking import invalid
from llava_wire.errors import RequestError
from llava_wire.quantity import ATTENTION, Quantity
from llava_wire.reduction import DEFAULT, REDUCTIONS

DEFAULT_METHOD = attention.DECLARATION.name


def parse_method(given: Mapping[str, Any], field: str) -> tuple[str, dict[str, Any]]:
    """Name and parameters of the method that a view names.

    Args:
        given: the view, or the options, with `method` and `parameters` where they are named.
        field: what to call it in errors.

    Raises:
        RequestError: "invalid", naming what there is.
    """
    name, parameters = given.get("method", DEFAULT_METHOD), given.get("parameters", {})
    if not isinstance(name, str):
        raise invalid(f"{field}.method", name, f"one of {sorted(METHODS.known())}")
    if not isinstance(parameters, Mapping):
        raise invalid(f"{field}.parameters", parameters, "an object of the method's parameters by name")
    try:
        return name, METHODS.find(name, f"{field}.method").parse(parameters, f"{field}.parameters")
    except DoorError as error:
        at, _, message = str(error).partition(": ")
        raise RequestError("invalid", at, message) from None


def check_selection(given: Mapping[str, Any], method: str, reduction: str, field: str) -> None:
    """Refuses layers, heads and what keeps them apart for a method that knows none, and means that mean nothing.

    Raises:
        RequestError: "invalid".
    """
    traits = declared(method).traits
    if declared(method).is_of_text and reduction != DEFAULT:
        raise invalid(f"{field}.reduction", reduction, f"{DEFAULT!r} with method {method!r}, whose columns are tokens")
    if REDUCTIONS[reduction].over_steps and not traits.get("averages", True):
        allowed = [name for name, one in REDUCTIONS.items() if not one.over_steps]
        wanted = f"one of {allowed} with method {method!r}, whose mean over an answer means nothing"
        raise invalid(f"{field}.reduction", reduction, wanted)
    if traits.get("heads", True):
        return
    for name in ("layers", "heads"):
        if name in given and given[name] != "all":
            raise invalid(f"{field}.{name}", given[name], f"none with method {method!r}, which tells no heads apart")
    if REDUCTIONS[reduction].keeps:
        allowed = [name for name, one in REDUCTIONS.items() if not one.keeps]
        raise invalid(f"{field}.reduction", reduction, f"one of {allowed} with method {method!r}")


def declared(method: str) -> Declaration:
    """The declaration of a name that was checked before."""
    return METHODS.find(method)


def quantity_of(method: str, parameters: Mapping[str, Any]) -> Quantity:
    """What a method's maps are, with these values of its parameters."""
    return declared(method).quantity_with(parameters) or ATTENTION


def load_method(name: str) -> Method:
    """The method of a name that was checked before.

    Raises:
        RequestError: "internal", when its package cannot be loaded.
    """
    try:
        method: Method = METHODS.load(name)
    except DoorError as error:
        raise RequestError("internal", "options.method", str(error)) from error
    return method


@contextmanager
def named_by(field: str) -> Iterator[None]:
    """Puts the place of a view before what a method's refusals name, which starts at the view.

    Args:
        field: what the request calls the view, such as "options.views[0]".

    Raises:
        RequestError: the method's own, with the whole name.
    """
    try:
        yield
    except RequestError as error:
        if error.field.partition(".")[0] not in ("method", "parameters"):
            raise
        raise RequestError(error.code, f"{field}.{error.field}", error.message) from error


def needs_of(view: AskedView, method: str, facts: Shape) -> Needs:
    """What a view's method needs of a model of this shape."""
    return load_method(method).needs(view, facts)
