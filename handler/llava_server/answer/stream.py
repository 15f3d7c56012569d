"""An answer as it is produced: one line per token with its maps, then the record.

Flow: `Progress` of a running batch of one -> the row that predicted the token -> views reduced and stored as in the
record -> `StreamedToken` -> one line of JSON; the last line carries the finished record.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from llava_server.answer.builder import RecordBuilder
from llava_server.answer.response import reply_of
from llava_server.run.batch import BatchItem
from llava_server.run.generate import Progress
from llava_wire.errors import RequestError
from llava_wire.plain import to_plain
from llava_wire.record import Record
from llava_wire.schema import Token
from llava_wire.view import View
from llava_wire.writing import token_document

LINES_TYPE = "application/x-ndjson"


@dataclass(frozen=True)
class StreamedToken:
    """One token of an answer that is still being written.

    Args:
        step: the step that predicted it; 0 is the prefill.
        token: as it will be in the record.
        views: by name, the token's row of each view as the record will hold it, without the query axis; empty when the
            request names steps and this is none of them.
    """

    step: int
    token: Token
    views: dict[str, View]


class StreamBuilder:
    """Makes the streamed tokens of one request."""

    def __init__(self, builder: RecordBuilder, item: BatchItem) -> None:
        self._builder = builder
        self._item = item
        self._reader = builder.reader()

    def token(self, progress: Progress) -> StreamedToken:
        """The token that the last step produced.

        Raises:
            RequestError: "internal", when the step's numbers are not finite.
        """
        options, step = self._item.plan.options, progress.step
        token = self._reader.add(*progress.log.latest(0))
        wanted = options.rows != "prompt" and (options.steps == "all" or step in options.steps)
        views = self._builder.row_views(self._item, progress, step) if wanted else {}
        return StreamedToken(step, token, views)


def line(part: StreamedToken | Record | RequestError) -> bytes:
    """One part of a stream as a line of JSON, line break included.

    A token's line has `type` "token", `step`, `token` and `views`; each view its `axes`, `dtype`, `shape`, `encoding`,
    `quantity`, `scales`, `shares` (of shares alone), `separators` (where there are some) and `maps_base64` (C order,
    little-endian). Maps on one grid have the axes row and col, those on several the axis patch, as in the record; those
    in blocks come as float32. The last line has `type` "record" and the members of a JSON reply, or `error`.
    """
    if isinstance(part, StreamedToken):
        views = {name: _view(view) for name, view in part.views.items()}
        # Whether a token needs the image is tested when the answer is whole; record.json leaves the key out too.
        token = token_document(part.token)
        content: dict[str, Any] = {"type": "token", "step": part.step, "token": token, "views": views}
    elif isinstance(part, Record):
        content = {"type": "record", **reply_of(part)}
    else:
        content = {"type": "error", **part.to_body()}
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _view(view: View) -> dict[str, Any]:
    stored, scales, encoding = view.stored, view.scales, view.facts.encoding
    if view.kept is not None:  # a line is read at once: it has the values themselves, as the record's blocks give them
        stored, scales, encoding = view.patches_float(), np.ones_like(view.scales), "float32"
    return {
        "axes": [axis for axis, _ in view.sizes],
        "dtype": stored.dtype.str,
        "shape": [size for _, size in view.sizes],
        "encoding": encoding,
        "quantity": to_plain(view.quantity),
        "scales": np.asarray(scales).tolist(),
        **({} if view.shares is None else {"shares": np.asarray(view.shares).tolist()}),
        **({} if view.separators is None else {"separators": np.asarray(view.separators).tolist()}),
        "maps_base64": base64.b64encode(np.ascontiguousarray(stored).tobytes()).decode("ascii"),
    }
