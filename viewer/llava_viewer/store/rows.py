"""What the table says of one item: the row of an answered one, and of one that has an error instead.

Flow: an item's own facts + its `Record`, or a `RequestError` -> a row of plain values; a row's own `Annotations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llava_viewer.look.wording import needing_image
from llava_viewer.store.part import Row
from llava_wire.choose import mean_image_share
from llava_wire.errors import RecordError, RequestError
from llava_wire.record import Record
from llava_wire.schema import Annotations

COLUMNS = (
    "n", "id", "image", "prompt", "answer", "finish_reason", "tokens", "texts", "logprobs", "without_image", "shares",
    "checks", "needing", "expected", "rule", "right", "boxes", "tags", "error", "part", "offset", "size",
)  # fmt: skip
"""What a row holds, in order; one that an item has nothing for is None."""


def row_of(item: Mapping[str, Any], record: Record, *, rule: str, right: bool | None) -> Row:
    """The row of an answered item.

    Args:
        item: `n`, `id`, `image`, `prompt`, and where known `expected`, `boxes`, `tags`.
        record: its record.
        rule: how the answer was compared with the expected one, "" where it was not.
        right: whether it is right by that rule.
    """
    facts = record.facts
    needing = needing_image(facts.checks)
    tested = any(token.without_image is not None for token in record.tokens)
    shares = {name: mean_image_share(facts, view) for name, view in record.views.items()}
    return {
        **dict.fromkeys(COLUMNS),
        **item,
        "answer": record.answer,
        "finish_reason": facts.finish_reason,
        "tokens": [token.id for token in record.tokens],
        "texts": [token.text for token in record.tokens],
        "logprobs": [token.logprob for token in record.tokens],
        "without_image": [token.without_image for token in record.tokens] if tested else None,
        "shares": {name: share for name, share in shares.items() if share is not None},
        "checks": {name: found.get("result") for name, found in facts.checks.items()},
        "needing": needing[0] if needing else None,
        "rule": rule,
        "right": right,
    }


def error_row(item: Mapping[str, Any], error: Exception) -> Row:
    """The row of an item that has no record; everything else of a run goes on."""
    code = error.code if isinstance(error, RequestError) else "record" if isinstance(error, RecordError) else "file"
    field = error.field if isinstance(error, RequestError) else "image" if isinstance(error, OSError) else ""
    message = error.message if isinstance(error, RequestError) else _words(error)
    return {**dict.fromkeys(COLUMNS), **item, "error": {"code": code, "field": field, "message": message}}


def annotations_of(row: Row) -> Annotations | None:
    """What the data says of an answer, as records hold it; None where it says nothing."""
    found = Annotations(row["expected"] or "", row["rule"] or "", row["right"], tuple(row["tags"] or ()))
    return found if found != Annotations() else None


def _words(error: Exception) -> str:
    return (
        f"got {error.strerror}, expected a file that can be read" if isinstance(error, OSError) else f"{error!s:.500}"
    )
