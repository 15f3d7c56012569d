"""What a replay reads of a parsed record.json: the question and its answer, counted before anything is made of them.

Flow: JSON text of a stranger -> `json_values`, before it is parsed -> `trimmed` -> what `llava_wire.schema` makes
facts of. A record shows thousands of rows; a replay needs none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llava_wire.errors import RecordError

_UNREAD = frozenset({"software", "checks", "notes", "views", "geometry", "annotations"})
_SIGNS = (b",", b"[", b"{")


@dataclass(frozen=True)
class QuestionLimits:
    """What reading a record's question may cost.

    Args:
        json_bytes, json_values: of record.json; values as `json_values` counts them.
        tokens, prompt_ids: how many the answer and the prompt may have.
        picture_bytes: of the picture inside, inflated.
    """

    json_bytes: int
    json_values: int
    tokens: int
    prompt_ids: int
    picture_bytes: int


def json_values(data: bytes | bytearray) -> int:
    """No fewer than the values that JSON text holds, found without parsing it; signs inside its strings count too.

    A megabyte of `[[],[],` becomes half a million objects of fifty bytes and more; counting commas takes a millisecond.
    """
    return 1 + sum(data.count(sign) for sign in _SIGNS)


def trimmed(plain: dict[str, Any], limits: QuestionLimits) -> dict[str, Any]:
    """A parsed record.json without rows, grids, candidates and what was said about software and checks.

    Raises:
        RecordError: "too_large" for more tokens or ids than are allowed.
    """
    prompt, tokens = plain.get("prompt"), plain.get("tokens")
    _count("tokens", tokens, limits.tokens)
    if isinstance(prompt, dict):
        for name in ("ids", "pieces", "texts"):
            _count(f"prompt.{name}", prompt.get(name), limits.prompt_ids)
    kept = {name: value for name, value in plain.items() if name not in _UNREAD}
    if isinstance(tokens, list):
        kept["tokens"] = [{**token, "top": []} if isinstance(token, dict) else token for token in tokens]
    return {**kept, "queries": [], "grids": []}


def _count(name: str, listed: object, most: int) -> None:
    if isinstance(listed, list) and len(listed) > most:
        raise RecordError("too_large", f"record.json.{name}: got {len(listed)} entries, expected {most}")
