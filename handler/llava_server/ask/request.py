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
from llava_server.ask.pictures import picture_files
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
        return cls(picture_files(image), question_text(prompt, "prompt"), parse_options(options), arrived_s=arrived_s)

    @classmethod
    def replay(
        cls, record: Record | bytes, options: object = None, image: object = None, *, arrived_s: float | None = None
    ) -> GenerateRequest:
        """Asks for other views of an answer that exists, without generating it again.

        Args:
            record: a record or its file; its question and answer are taken, its maps are not.
            options: views, rows, steps, precision, format; none that decide the answer.
            image: bytes of the picture file, or a list of them as for `build`; None takes what the record carries.
            arrived_s: `time.monotonic()` when it came; None for now.

        Raises:
            RequestError: naming the field at fault.
        """
        arrived_s = time.monotonic() if arrived_s is None else arrived_s
        facts, carried = (record.facts, record.pictures) if isinstance(record, Record) else _record(record)
        if isinstance(options, Mapping):
            for name in (*DECODING, "stream"):
                if name in options:
                    allowed = (
                        "no option of an answer that is written anew; a replay takes it from the record; leave it out"
                    )
                    raise invalid(f"options.{name}", options[name], allowed)
        if image is None:
            if not carried:
                raise RequestError(
                    "bad_request",
                    "image",
                    "got none, and the record carries no image; expected one of both; send the image file",
                )
            image = [data for _, data in carried]
        if not facts.tokens:
            raise invalid("record.tokens", 0, "an answer of at least one token; replay another record")
        pictures = picture_files(image)
        if len(pictures) != len(facts.images):
            wanted = f"the {len(facts.images)} of the record, in its order; send the files that were asked about"
            raise invalid("image", len(pictures), wanted, "images,")
        if facts.prompt.turns or facts.prompt.system:
            named = "turns" if facts.prompt.turns else "system"
            raise invalid(f"record.prompt.{named}", "some", "one question alone; replay another record")
        for i, one in enumerate(facts.images):
            if not _SHA256.fullmatch(one.sha256):
                raise invalid(f"record.images[{i}].sha256", one.sha256, "64 hexadecimal digits; the file is damaged")
        question = question_text(facts.prompt.text, "record.prompt.text")
        chosen = parse_options(options)
        chosen = replace(chosen, max_new_tokens=len(facts.tokens), template=facts.prompt.template)
        facts = replace(facts, sampling=_sampling(facts.sampling))
        return cls(pictures, question, chosen, facts, arrived_s=arrived_s)


def question_text(text: object, field: str) -> str:
    """The text of a question: something to see in it, and nothing that UTF-8 cannot hold.

    Raises:
        RequestError: naming `field`.
    """
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


def _record(data: object) -> tuple[Facts, tuple[tuple[str, bytes], ...]]:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise RequestError(
            "bad_request", "record", f"got {type(data).__name__}, expected the bytes of a record file; send a file part"
        )
    try:
        return decode_question(bytes(data), RECORD_LIMITS)
    except RecordError as error:
        raise RequestError("invalid", "record", f"got no readable record ({error})") from error
