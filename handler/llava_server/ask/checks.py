"""The checks of an answer: their names and parameters held against what is behind the door, and what they need.

Flow: the option `check` -> `parse_checks` -> `CheckSpec`s -> `needs_of_check`, once the request's reach is known. What
is wrong is refused with what is known, before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llava_doors.asked import Reach, Shape
from llava_doors.check import AskedCheck, Check
from llava_doors.door import CHECKS, DoorError
from llava_doors.method import Needs
from llava_server.ask.checking import invalid
from llava_wire.errors import RequestError
from llava_wire.schema import IMAGE_CHECK


@dataclass(frozen=True)
class CheckSpec:
    """One check as it was asked for: its name, and the value of each of its parameters."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


DEFAULT_CHECKS = (CheckSpec(IMAGE_CHECK),)
"""What is tested where neither a request nor the model's settings say."""


def parse_checks(given: object, field: str) -> tuple[CheckSpec, ...]:
    """Checks a list of checks, each a name or an object of its name and parameters.

    Args:
        given: the list.
        field: what to call it in errors.

    Raises:
        RequestError: "invalid", naming what there is.
    """
    known = sorted(CHECKS.known())
    if not isinstance(given, list) or len(given) > len(known):
        raise invalid(field, given, f"a list of {known}, each at most once; [] for no check")
    found = [_parse(one, f"{field}[{i}]") for i, one in enumerate(given)]
    names = [one.name for one in found]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise invalid(f"{field}[{i}]", name, "each check at most once; leave the repeated one out")
    return tuple(found)


def needs_of_check(spec: CheckSpec, asked: AskedCheck, facts: Shape, reach: Reach, field: str) -> Needs:
    """What a check needs of a request.

    Raises:
        RequestError: "invalid", when the check refuses it, naming `field`; "internal", when it needs what is not kept.
    """
    try:
        needs = load_check(spec.name).needs(asked, facts, reach)
    except DoorError as error:
        raise _refused(error, field) from None
    if needs.rows != "none" or needs.values or needs.hidden or needs.questions or needs.gradients == "asked":
        expected = "passes, and gradients of them, alone; correct the check"
        raise RequestError("internal", field, f"got the check {spec.name!r}, which needs {needs}, expected {expected}")
    return needs


def load_check(name: str) -> Check:
    """The check of a name that was checked before.

    Raises:
        RequestError: "internal", when its package cannot be loaded.
    """
    try:
        check: Check = CHECKS.load(name)
    except DoorError as error:
        raise RequestError("internal", "options.check", str(error)) from error
    return check


def _parse(given: object, field: str) -> CheckSpec:
    known = sorted(CHECKS.known())
    named = given if isinstance(given, Mapping) else {"name": given}
    name = named.get("name")
    if not isinstance(name, str):
        raise invalid(field, given, f"one of {known}, or an object of its name and parameters")
    try:
        declared = CHECKS.find(name, field)
        return CheckSpec(name, declared.parse({key: one for key, one in named.items() if key != "name"}, field))
    except DoorError as error:
        raise _refused(error, "") from None


def _refused(error: DoorError, field: str) -> RequestError:
    """The refusal of a door, "parameters.view: got ...", as that of a request."""
    at, _, message = str(error).partition(": ")
    return RequestError("invalid", f"{field}.{at.removeprefix('parameters.')}" if field else at, message)
