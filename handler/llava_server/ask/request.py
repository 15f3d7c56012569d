"""One validated request: picture bytes, question, options. No tensors.

Flow: bytes and JSON from a stranger -> `GenerateRequest.build`, or `.replay` of a record -> frozen `GenerateRequest`
-> the engine.
"""

from __future__ import annotations

import math
import re
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from llava_server.ask.checking import invalid
from llava_server.ask.options import DECODING, Options, parse_options
from llava_wire.container import decode_question
from llava_wire.errors import RecordError, RequestError
from llava_wire.record import Record
from llava_wire.schema import SAMPLING_NAMES, Facts
from llava_wire.untrusted.question import QuestionLimits

RECORD_LIMITS = QuestionLimits(
    json_bytes=8 << 20, json_values=1 << 18, tokens=1 << 13, prompt_ids=1 << 15, picture_bytes=64 << 20
)
"""What reading a record to replay may cost: several times what models here can write; their own limits come later."""
MAX_PROMPT_CHARS = 1 << 18
"""The longest prompt that is looked at; the model's own limit comes later."""
MAX_IMAGES = 16
"""Pictures of one request; the model's family and its context allow fewer."""
_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
"""Unicode's categories of controls, formats and spaces."""
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class GenerateRequest:
    """What one client asked.

    Args:
        images: the files' bytes, not decoded yet; one or more.
        prompt: the user's text.
        options: checked options.
        given: the facts of the record whose answer is replayed, or None when the model is to answer.
        arrived_s: `time.monotonic()` at the worker; deadlines count from here.
    """

    images: tuple[bytes, ...]
    prompt: str
    options: Options
    given: Facts | None = None
    arrived_s: float = field(default_factory=time.monotonic, compare=False)

    @property
    def image(self) -> bytes:
        """The first picture's file."""
        return self.images[0]

    @property
    def format(self) -> Literal["npz", "json"] | None:
        """The response format that the options asked for, or None to let the transport decide."""
        return self.options.format

    @classmethod
    def build(
        cls, image: object, prompt: object, options: object = None, *, arrived_s: float | None = None
    ) -> GenerateRequest:
        """Checks what can be checked without the model.

        Args:
            image: bytes of a picture file, or a list of them for a model that takes several.
            prompt: the question, text with something other than white space in it.
            options: the options object, or None for the defaults.
            arrived_s: `time.monotonic()` when it came; None for now.

        Raises:
            RequestError: naming the field at fault.
        """
        arrived_s = time.monotonic() if arrived_s is None else arrived_s
        return cls(_pictures(image), _question(prompt, "prompt"), parse_options(options), arrived_s=arrived_s)

    @classmethod
    def replay(
        cls, record: Record | bytes, options: object = None, image: object = None, *, arrived_s: float | None = None
    ) -> GenerateRequest:
        """Asks for other views of an answer that exists, without generating it again.

        Args:
            record: a record or its file; its question and answer are taken, its maps are not.
            options: views, rows, steps, precision, format; none that decide the answer.
            image: bytes of the picture file; None takes the picture that the record carries.
            arrived_s: `time.monotonic()` when it came; None for now.

        Raises:
            RequestError: naming the field at fault.
        """
        arrived_s = time.monotonic() if arrived_s is None else arrived_s
        facts, carried = (record.facts, record.picture) if isinstance(record, Record) else _record(record)
        if isinstance(options, Mapping):
            for name in (*DECODING, "stream"):
                if name in options:
                    allowed = (
                        "no option of an answer that is written anew; a replay takes it from the record; leave it out"
                    )
                    raise invalid(f"options.{name}", options[name], allowed)
        if image is None:
            if carried is None:
                raise RequestError(
                    "bad_request",
                    "image",
                    "got none, and the record carries no picture; expected one of both; send the picture file",
                )
            image = carried[1]
        if not facts.tokens:
            raise invalid("record.tokens", 0, "an answer of at least one token; replay another record")
        if len(facts.images) != 1:
            raise invalid("record.images", len(facts.images), "one picture; replay another record")
        if facts.prompt.turns or facts.prompt.system:
            named = "turns" if facts.prompt.turns else "system"
            raise invalid(f"record.prompt.{named}", "some", "one question alone; replay another record")
        if not _SHA256.fullmatch(facts.image.sha256):
            raise invalid("record.images[0].sha256", facts.image.sha256, "64 hexadecimal digits; the file is damaged")
        question = _question(facts.prompt.text, "record.prompt.text")
        chosen = parse_options(options)
        chosen = replace(chosen, max_new_tokens=len(facts.tokens), template=facts.prompt.template)
        facts = replace(facts, sampling=_sampling(facts.sampling))
        return cls((_picture(image, "image"),), question, chosen, facts, arrived_s=arrived_s)


def _pictures(image: object) -> tuple[bytes, ...]:
    """The files of one picture or of a list of them."""
    if not isinstance(image, list | tuple):
        return (_picture(image, "image"),)
    if not 1 <= len(image) <= MAX_IMAGES:
        raise invalid("image", len(image), f"1 to {MAX_IMAGES}; send fewer", "a list of")
    return tuple(_picture(one, "image" if i == 0 else f"image_{i + 1}") for i, one in enumerate(image))


def _picture(image: object, field: str) -> bytes:
    if not isinstance(image, bytes | bytearray | memoryview):
        raise RequestError(
            "bad_request",
            field,
            f"got {type(image).__name__}, expected the bytes of a picture file; send a file part",
        )
    if len(image) == 0:
        raise RequestError("bad_request", field, "got 0 bytes, expected a picture file; send one")
    return bytes(image)


def _question(text: object, field: str) -> str:
    """The text of a question: something to see in it, and nothing that UTF-8 cannot hold."""
    if not isinstance(text, str):
        raise RequestError("bad_request", field, f"got {type(text).__name__}, expected text; send a question")
    if len(text) > MAX_PROMPT_CHARS:
        raise RequestError("too_large", field, f"got {len(text)} characters, expected {MAX_PROMPT_CHARS}; shorten it")
    if shows_nothing(text):
        raise invalid(field, text, "text with something to see in it; ask a question")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise invalid(
            field, text[error.start], f"text that UTF-8 can hold; remove it at character {error.start}", "half a pair"
        ) from error
    return text


def shows_nothing(text: str) -> bool:
    """Whether a text has nothing to see in it."""
    return all(unicodedata.category(char) in _UNSEEN for char in text)


def _sampling(given: Mapping[str, Any]) -> dict[str, int | float]:
    """What a record says about how its answer was chosen, as far as this version knows it and it is a number."""
    values = {name: given[name] for name in SAMPLING_NAMES if name in given}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    }


def _record(data: object) -> tuple[Facts, tuple[str, bytes] | None]:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise RequestError(
            "bad_request", "record", f"got {type(data).__name__}, expected the bytes of a record file; send a file part"
        )
    try:
        return decode_question(bytes(data), RECORD_LIMITS)
    except RecordError as error:
        raise RequestError("invalid", "record", f"got no readable record ({error})") from error
