"""The sequences of one request as one record.

Flow: a finished batch + the items of one request -> a record each -> the first, with the others as its alternatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llava_server.answer.builder import RecordBuilder
from llava_server.run.batch import BatchItem, BatchRun
from llava_server.run.prepare import Prepared
from llava_wire.errors import RequestError
from llava_wire.record import Record


def together(
    builder: RecordBuilder, entry: Prepared, group: Sequence[BatchItem], run: BatchRun, first: int, batch: int
) -> Record | RequestError:
    """The sequences of one request as one record; one refusal refuses the request.

    Args:
        builder: makes each record.
        entry: the request.
        group: its items.
        run: the finished batch.
        first: the place of `group[0]` in the batch.
        batch: the batch's size.
    """

    def build(place: int, item: BatchItem, **how: bool) -> Record | RequestError:
        return builder.build(entry.checked.request, item, run, first + place, batch, entry.preprocess_ms, **how)

    built = [build(place, item) for place, item in enumerate(group)]
    if any(isinstance(one, Record) for one in built):
        # Of several answers a short one must not cost the others: it shows its last step, and says so.
        built = [
            build(i, group[i], or_last=True) if isinstance(one, RequestError) and one.field == "options.steps" else one
            for i, one in enumerate(built)
        ]
    records = []
    for result in built:
        if isinstance(result, RequestError):
            return result
        records.append(result)
    return replace(records[0], alternatives=tuple(replace(record, run={}) for record in records[1:]))
