"""One validated request: picture bytes, question, options. No tensors.

Flow: bytes and JSON from a stranger -> `GenerateRequest.build`, or `.replay` of a record -> frozen `GenerateRequest`
-> the engine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from llava_server.options import DECODING, Options, invalid, parse_options
from llava_wire.container import decode
from llava_wire.errors import RecordError, RequestError
from llava_wire.record import Record
from llava_wire.schema import Facts


@dataclass(frozen=True)
class GenerateRequest:
    """What one client asked.

    Args:
        image: the file's bytes, not decoded yet.
        prompt: the user's text.
        options: checked options.
        given: the facts of the record whose answer is replayed, or None when the model is to answer.
        arrived_s: `time.monotonic()` at the worker; deadlines count from here.
    """

    image: bytes
    prompt: str
    options: Options
    given: Facts | None = None
    arrived_s: float = field(default_factory=time.monotonic, compare=False)

    @property
    def format(self) -> Literal["npz", "json"] | None:
        """The response format that the options asked for, or None to let the transport decide."""
        return self.options.format

    @classmethod
    def build(cls, image: object, prompt: object, options: object = None) -> GenerateRequest:
        """Checks what can be checked without the model.

        Args:
            image: bytes of a picture file.
            prompt: the question, text with something other than white space in it.
            options: the options object, or None for the defaults.

        Raises:
            RequestError: naming the field at fault.
        """
        picture = _picture(image)
        if not isinstance(prompt, str):
            raise RequestError("bad_request", "prompt", f"got {type(prompt).__name__}, allowed text; send a question")
        if not prompt.strip():
            raise invalid("prompt", prompt, "text that is not empty; ask a question")
        if any(0xD800 <= ord(char) <= 0xDFFF for char in prompt):
            raise invalid(
                "prompt", prompt.encode("utf-8", "backslashreplace"), "text that UTF-8 can hold; remove lone surrogates"
            )
        return cls(picture, prompt, parse_options(options))

    @classmethod
    def replay(cls, record: Record | bytes, options: object = None, image: object = None) -> GenerateRequest:
        """Asks for other views of an answer that exists, without generating it again.

        Args:
            record: a record or its file; its question and answer are taken, its maps are not.
            options: views, rows, steps, precision, format; none that decide the answer.
            image: bytes of the picture file; None takes the picture that the record carries.

        Raises:
            RequestError: naming the field at fault.
        """
        if not isinstance(record, Record):
            record = _record(record)
        if isinstance(options, Mapping):
            for name in (*DECODING, "stream"):
                if name in options:
                    allowed = (
                        "no option of an answer that is written anew; a replay takes it from the record; leave it out"
                    )
                    raise invalid(f"options.{name}", options[name], allowed)
        if image is None:
            if record.picture is None:
                raise RequestError(
                    "bad_request",
                    "image",
                    "got none, and the record carries no picture; allowed one of both; send the picture file",
                )
            image = record.picture[1]
        facts = record.facts
        if not facts.tokens:
            raise invalid("record.tokens", 0, "an answer of at least one token; replay another record")
        chosen = parse_options(options)
        chosen = replace(chosen, max_new_tokens=len(facts.tokens), template=facts.prompt.template)
        return cls(_picture(image), facts.prompt.text, chosen, facts)


def _picture(image: object) -> bytes:
    if not isinstance(image, bytes | bytearray | memoryview):
        raise RequestError(
            "bad_request",
            "image",
            f"got {type(image).__name__}, allowed the bytes of a picture file; send a file part",
        )
    if len(image) == 0:
        raise RequestError("bad_request", "image", "got 0 bytes, allowed a picture file; send one")
    return bytes(image)


def _record(data: object) -> Record:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise RequestError(
            "bad_request", "record", f"got {type(data).__name__}, allowed the bytes of a record file; send a file part"
        )
    try:
        return decode(bytes(data))
    except RecordError as error:
        raise RequestError("invalid", "record", f"got no readable record ({error})") from error
