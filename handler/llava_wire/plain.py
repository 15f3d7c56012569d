"""Dataclasses to JSON values and back, checked on the way in.

Flow: dataclasses -> `to_plain` -> record.json -> `from_plain` -> dataclasses, or a `RecordError` that names the place.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from typing import Any, Literal

from llava_wire.errors import RecordError, beginning
from llava_wire.limits import MAX_INTEGER, MAX_TEXT_CHARS

_NUMBERS = (int, Ellipsis)
_AS_IT_IS = frozenset({str, int, bool, type(None)})


def to_plain(value: Any) -> Any:
    """Dataclasses and tuples to dicts and lists, field by field, in declaration order."""
    kind = type(value)
    if kind in _AS_IT_IS:  # nearly every value of a record: looked at first
        return value
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"record: got the number {value}, expected finite numbers")
    if dataclasses.is_dataclass(kind):
        return {name: to_plain(getattr(value, name)) for name in _field_names(kind)}
    return value


@functools.cache
def _field_names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind))


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(kind)


@functools.cache
def _form(kind: Any) -> tuple[Any, tuple[Any, ...], tuple[dataclasses.Field[Any], ...] | None]:
    """What a type is made of: its origin, its arguments, and a dataclass's fields; the same for thousands of values."""
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) and isinstance(kind, type) else None
    return typing.get_origin(kind), typing.get_args(kind), fields


def from_plain(kind: Any, value: Any, path: str = "record.json") -> Any:
    """JSON values to the given dataclass or type, checked; unknown keys are ignored so that versions can add some.

    A value of a type `X | None` is an X where the key is there; None stands for its absence.

    Raises:
        RecordError: reason "invalid", naming the path of the first value that does not fit.
    """
    origin, args, fields = _form(kind)
    if kind is Any:
        return value
    if fields is not None:
        if not isinstance(value, dict):
            raise mismatch(path, value, "an object")
        hints = _hints(kind)
        given = {}
        for f in fields:
            if f.name in value:
                given[f.name] = from_plain(hints[f.name], value[f.name], f"{path}.{f.name}")
            elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
                raise RecordError(
                    "invalid", f"{path}: got no {f.name!r}, expected records that have it; the file is damaged"
                )
        return kind(**given)
    if origin is Literal:
        if value not in args:
            raise mismatch(path, value, f"one of {list(args)}")
        return value
    if origin is tuple:
        if not isinstance(value, list) or (args[-1] is not Ellipsis and len(value) != len(args)):
            raise mismatch(path, value, "a list")
        if args == _NUMBERS and all(type(v) is int and -MAX_INTEGER <= v <= MAX_INTEGER for v in value):
            return tuple(value)  # the ids of a prompt, some hundreds
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        return tuple(from_plain(k, v, f"{path}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if origin is dict:
        if not isinstance(value, dict):
            raise mismatch(path, value, "an object")
        return {_text(key, path): from_plain(args[1], item, f"{path}.{key:.80}") for key, item in value.items()}
    if origin is types.UnionType:
        return from_plain(args[0], value, path)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise mismatch(path, value, "a finite number")
        return number
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise mismatch(path, value, kind.__name__)
    if kind is int and not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise mismatch(path, value, f"whole numbers up to {MAX_INTEGER}")
    return _text(value, path) if kind is str else value


def mismatch(path: str, value: object, allowed: str) -> RecordError:
    """The error for a value of a file that does not fit."""
    return RecordError("invalid", f"{path}: got {beginning(value)}, expected {allowed}; the file is damaged")


def _text(value: str, path: str) -> str:
    if len(value) > MAX_TEXT_CHARS:
        raise mismatch(path, f"{len(value)} characters", f"up to {MAX_TEXT_CHARS}")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise mismatch(path, value[error.start], "text that UTF-8 can hold") from error
    return value
