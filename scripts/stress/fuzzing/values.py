"""Text and JSON that strangers might send: options of wrong kinds, broken JSON, odd Unicode, damaged records.

Flow: a random source -> text, options as text, or a record file. What is accepted is cheap: few tokens are asked for.
"""

from __future__ import annotations

import json
import random
from typing import Any

OPTIONS = (
    "max_new_tokens", "template", "rows", "steps", "layers", "heads", "reduction", "method", "parameters", "views",
    "precision", "format", "stream", "temperature", "top_p", "top_k", "seed", "num_beams", "length_penalty",
    "num_return_sequences", "deadline_ms", "check",
)  # fmt: skip
_TEXTS = (
    "", " ", "\t\n", "\0", "\u200b", "\u202eevil", "e\u0301" * 30, "\U0001f469\u200d\U0001f52c", "\ufeff", "\ufffe",
    "<image>", "</s>", "<s><unk><pad>", "<image><image>", "<script>alert(1)</script>", "'; DROP TABLE x; --",
    "{{7*7}}", "${jndi:ldap://127.0.0.1/x}", "%n%s%x", "\r\nHTTP/1.1 200 OK\r\n\r\n", "\x1b[2J", "A" * 300,
    "\u4e2d" * 90, "What colour is the square?", "Describe the image.", "Is there a red circle in the image?",
    "x" * 4001, "y " * 2100,
)  # fmt: skip
_NUMBERS = (0, -1, 1, 2, 3, 7, 99, 257, 2**31, 2**63, 2**64, -(2**63), 10**30, 0.5, -0.0, 1e-9, 1e308)
_WORDS = (
    "all", "none", "heads", "layers_heads", "next-object", "named-object", "chat", "raw", "answer", "prompt", "both",
    "npz", "json", "uint8", "float16", "float32", "NaN", "constructor", "__class__", "../../etc/passwd",
)  # fmt: skip
_BROKEN = (
    "", "{", "}", "[", "nul", "{'a': 1}", '{"a": 1,}', '{"a" 1}', "{} {}", "\ufeff{}", '{"seed": NaN}',
    '{"top_p": 1e400}', '{"top_k": -Infinity}', '{"temperature": 1' + "0" * 400 + "}",
    '{"max_new_tokens": ' + "9" * 5000 + "}",
    '{"\\ud800": 1}', '{"heads": "\\udfff"}', '{"views": [{"name": "\\ud83d"}]}', "[" * 5000, '{"a":' * 3000,
    '{"layers": ' + "[" * 800 + "]" * 800 + "}", '{"seed": 1, "seed": 2}', "[1]", "1", '"x"', "true", "null", "\0",
)  # fmt: skip


def text(rng: random.Random) -> str:
    """Where a question is wanted."""
    kind = rng.randrange(4)
    if kind == 0:
        return "".join(chr(rng.choice((rng.randrange(0xD800), rng.randrange(0xE000, 0x11_0000)))) for _ in range(20))
    chosen = rng.choice(_TEXTS)
    return chosen if kind < 3 else rng.choice(_TEXTS) + chosen


def options(rng: random.Random) -> str:
    """Where options are wanted, as JSON text."""
    kind = rng.randrange(10)
    if kind == 0:
        return rng.choice(_BROKEN)
    given: dict[str, Any] = {"max_new_tokens": rng.randint(1, 3)}
    for _ in range(rng.randint(1, 3) if kind < 5 else 0):
        given[_name(rng)] = value(rng, 3)
    if rng.random() < 0.12:
        given["stream"] = True
    written = json.dumps(given, ensure_ascii=rng.random() < 0.5)
    if kind == 1:
        at = rng.randrange(len(written))
        written = written[:at] + rng.choice('{}[],:"\\0x\0') + written[at + rng.randrange(2) :]
    return written


def value(rng: random.Random, depth: int) -> Any:
    """Any JSON value."""
    kind = rng.randrange(9 if depth else 6)
    if kind == 0:
        return rng.choice((None, True, False))
    if kind in (1, 2):
        return rng.choice(_NUMBERS)
    if kind == 3:
        return rng.choice(_TEXTS)
    if kind in (4, 5):
        return rng.choice(_WORDS)
    if kind == 6:
        return {_name(rng): value(rng, depth - 1) for _ in range(rng.randrange(4))}
    if kind == 7:
        return [[rng.randrange(5), rng.randrange(9)] for _ in range(rng.randrange(4))]
    return [value(rng, depth - 1) for _ in range(rng.randrange(4))]


def record(rng: random.Random, sound: bytes) -> bytes:
    """Where a record is wanted: a sound one, cut or changed."""
    kind = rng.randrange(4)
    if kind == 0:
        return sound
    if kind == 1:
        return sound[: rng.randrange(len(sound))]
    data = bytearray(sound)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data))
        data[at : at + 1] = rng.randbytes(1)
    return bytes(data)


def _name(rng: random.Random) -> str:
    if rng.random() < 0.75:
        return rng.choice((*OPTIONS, "name"))
    return rng.choice((*_WORDS, *_TEXTS, "m" * 200, "Layers", "layer"))
