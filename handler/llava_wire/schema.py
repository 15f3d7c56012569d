"""The plain facts of a record: tokens, queries, prompt, image, model, and their JSON form.

Flow: dataclasses -> `to_plain` -> record.json -> `from_plain` -> dataclasses, whose values `checks` holds against each
other. Arrays live in `llava_wire.record`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from llava_wire.errors import RecordError, beginning
from llava_wire.limits import MAX_INTEGER, MAX_TEXT_CHARS
from llava_wire.quantity import ATTENTION, Quantity

FORMAT = "llava-gaze-record"
VERSION = 1
_AS_IT_IS = frozenset({str, int, bool, type(None)})
SHARE_NAMES = ("bos", "image", "prompt", "answer")
SAMPLING_NAMES = (
    "max_new_tokens", "greedy", "temperature", "seed", "top_p", "top_k", "num_beams", "length_penalty", "score",
    "sequence", "sequences",
)  # fmt: skip
"""What `Facts.sampling` says, each a number; `greedy` is true or false."""
REDUCTIONS = ("none", "heads", "layers_heads", "all")


@dataclass(frozen=True)
class Candidate:
    """One of the most probable tokens at a step; `logprob` is the natural log of its probability."""

    id: int
    text: str
    logprob: float


@dataclass(frozen=True)
class Token:
    """One token of the answer.

    Args:
        id: the vocabulary id.
        piece: the vocabulary's own string, such as "Ġred" or "▁red".
        text: what this token adds to the answer's text; empty for special tokens and inside a character.
        logprob: natural log of its probability from the raw logits, before temperature or truncation.
        top: the five most probable tokens at this step, most probable first.
        special: end of sequence and the like; viewers fold it away.
    """

    id: int
    piece: str
    text: str
    logprob: float
    top: tuple[Candidate, ...] = ()
    special: bool = False


@dataclass(frozen=True)
class Query:
    """One captured row of attention.

    Args:
        kind: "answer" (the row that predicted an answer token) or "prompt" (a text token of the question, at prefill).
        token: index into the answer's tokens, or into the prompt's ids for kind "prompt".
        position: the position in the unpadded sequence whose query this row is.
        step: the forward step that computed it; 0 is the prefill.
    """

    kind: Literal["answer", "prompt"]
    token: int
    position: int
    step: int


@dataclass(frozen=True)
class Prompt:
    """What the model read.

    Args:
        text: the user's question.
        template: "chat" when the model's chat template was put around it, "raw" when it is the whole prompt.
        rendered: the whole prompt with one `<image>`.
        ids: its token ids, the image token once per patch.
        pieces: the vocabulary's own string of each id.
        image_start, image_count: where the image tokens lie in `ids`.
        texts: what each id adds to the text, as `Token.text`; empty in records of earlier writers.
    """

    text: str
    template: Literal["chat", "raw"]
    rendered: str
    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    image_start: int
    image_count: int
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Image:
    """The picture that was asked about: size in px after EXIF rotation, sha256 of the file and of its RGB pixels."""

    width_px: int
    height_px: int
    sha256: str
    pixels_sha256: str


@dataclass(frozen=True)
class Model:
    """Which model answered, and how it was run."""

    name: str
    source: str
    revision: str
    dtype: str
    attention: str
    device: str
    layers: int
    heads: int


@dataclass(frozen=True)
class MethodFacts:
    """How a view's maps were made: the method's name and the value of each of its parameters."""

    name: str = "attention"
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ViewFacts:
    """What one view selected; its arrays are in the same order.

    Args:
        name: unique in the record.
        reduction: one of `REDUCTIONS`.
        axes: names of the axes of `maps`, a part of (query, layer, head or layer_head, row, col).
        layers, heads: the 0-based selection, when it is a grid.
        pairs: the [layer, head] selection, when it is a list of pairs; then layers and heads are empty.
        head_set: the named head set it came from, or "".
        steps: the steps that a mean over steps averaged; empty when the query axis is kept.
        precision, encoding: how maps are stored; error_bound: the largest absolute error of a decoded value.
        method: how the maps were made; quantity: what their numbers are.
    """

    name: str
    reduction: Literal["none", "heads", "layers_heads", "all"]
    axes: tuple[str, ...]
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]
    head_set: str
    steps: tuple[int, ...]
    precision: Literal["uint8", "float16", "float32"]
    encoding: str
    error_bound: float
    method: MethodFacts = MethodFacts()
    quantity: Quantity = ATTENTION


@dataclass(frozen=True)
class Note:
    """Something about this run that a reader must know to read it rightly; shown wherever the record is.

    Args:
        code: what it is about, for programs, in lower case with dashes: "transparency".
        field: the part of the request or model that it concerns: "image", "prompt", "model", "options.steps".
        text: one sentence for people, with what was done and what to do about it.
    """

    code: str
    field: str
    text: str


@dataclass(frozen=True)
class Facts:
    """Everything in record.json except geometry and views.

    `checks` says what was tested about the model that ran, each entry by its name with a "result"; `notes` says what is
    unusual about this run. Both are empty in records of earlier writers, and left out of record.json when empty.
    """

    answer: str
    finish_reason: Literal["stop", "length", "deadline"]
    prompt: Prompt
    image: Image
    model: Model
    tokens: tuple[Token, ...]
    queries: tuple[Query, ...]
    sampling: dict[str, Any] = field(default_factory=dict)
    software: dict[str, str] = field(default_factory=dict)
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()


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
        raise ValueError(f"record: got the number {value}, allowed finite numbers")
    if dataclasses.is_dataclass(kind):
        return {name: to_plain(getattr(value, name)) for name in _field_names(kind)}
    return value


@functools.cache
def _field_names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind))


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def from_plain(kind: Any, value: Any, path: str = "record.json") -> Any:
    """JSON values to the given dataclass or type, checked; unknown keys are ignored so that versions can add some.

    Raises:
        RecordError: reason "invalid", naming the path of the first value that does not fit.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise mismatch(path, value, "an object")
        hints = _hints(kind)
        given = {}
        for f in dataclasses.fields(kind):
            if f.name in value:
                given[f.name] = from_plain(hints[f.name], value[f.name], f"{path}.{f.name}")
            elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
                raise RecordError(
                    "invalid", f"{path}: got no {f.name!r}, allowed records that have it; the file is damaged"
                )
        return kind(**given)
    if origin is Literal:
        if value not in args:
            raise mismatch(path, value, f"one of {list(args)}")
        return value
    if origin is tuple:
        if not isinstance(value, list) or (args[-1] is not Ellipsis and len(value) != len(args)):
            raise mismatch(path, value, "a list")
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        return tuple(from_plain(k, v, f"{path}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if origin is dict:
        if not isinstance(value, dict):
            raise mismatch(path, value, "an object")
        return {_text(key, path): from_plain(args[1], item, f"{path}.{key:.80}") for key, item in value.items()}
    if origin is types.UnionType:
        raise TypeError(f"{path}: unions are not used in the schema")
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
    return RecordError("invalid", f"{path}: got {beginning(value)}, allowed {allowed}; the file is damaged")


def _text(value: str, path: str) -> str:
    if len(value) > MAX_TEXT_CHARS:
        raise mismatch(path, f"{len(value)} characters", f"up to {MAX_TEXT_CHARS}")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise mismatch(path, value[error.start], "text that UTF-8 can hold") from error
    return value
