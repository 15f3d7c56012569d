"""One validated request: picture bytes, question, options. No tensors.

Flow: bytes and JSON from a stranger -> `GenerateRequest.build` -> frozen `GenerateRequest` -> the engine.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from llava_server.options import Options, invalid, parse_options
from llava_wire.errors import RequestError


@dataclass(frozen=True)
class GenerateRequest:
    """What one client asked.

    Args:
        image: the file's bytes, not decoded yet.
        prompt: the user's text.
        options: checked options.
        arrived_s: `time.monotonic()` at the worker; deadlines count from here.
    """

    image: bytes
    prompt: str
    options: Options
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
        if not isinstance(image, bytes | bytearray | memoryview):
            raise RequestError(
                "bad_request",
                "image",
                f"got {type(image).__name__}, allowed the bytes of a picture file; send a file part",
            )
        if len(image) == 0:
            raise RequestError("bad_request", "image", "got 0 bytes, allowed a picture file; send one")
        if not isinstance(prompt, str):
            raise RequestError("bad_request", "prompt", f"got {type(prompt).__name__}, allowed text; send a question")
        if not prompt.strip():
            raise invalid("prompt", prompt, "text that is not empty; ask a question")
        if any(0xD800 <= ord(char) <= 0xDFFF for char in prompt):
            raise invalid(
                "prompt", prompt.encode("utf-8", "backslashreplace"), "text that UTF-8 can hold; remove lone surrogates"
            )
        return cls(bytes(image), prompt, parse_options(options))
