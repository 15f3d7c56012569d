"""One row of a front end's batch, from its arrival to its log line.

Flow: row + headers -> `Item` with a checked request, or with the refusal -> (an answer) -> log line, figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from llava_server.ask.request import GenerateRequest
from llava_server.front.duty import off_duty
from llava_server.front.incoming import Probe, is_http, is_probe, read_request
from llava_server.front.journal import refusal
from llava_server.front.metrics import Figure, of_request
from llava_wire.errors import RequestError
from llava_wire.record import Record
from llava_wire.system.inner import KEY_HEADER


@dataclass(frozen=True)
class Item:
    """One row of a batch.

    Args:
        index: its place in the batch.
        request_id: the front end's id of it.
        transport: how it came.
        request_bytes: its size.
        key: the name of the key that it came with; None where all come with the same.
        asked: what it asks for, or why it is refused; a probe is answered and leaves no trace.
    """

    index: int
    request_id: str
    transport: Literal["http", "grpc"]
    request_bytes: int
    key: str | None
    asked: GenerateRequest | Probe | RequestError

    @classmethod
    def read(
        cls,
        index: int,
        request_id: str,
        row: Mapping[str, Any],
        head: Mapping[str, str],
        *,
        on_duty: bool,
        named_keys: bool = False,
        arrived_s: float | None = None,
    ) -> Item:
        """Reads a row.

        Args:
            row: the fields that the front end took apart.
            head: its headers with names in lower case.
            on_duty: whether the worker still takes requests.
            named_keys: whether whoever stands before the front end checks keys and names them.
            arrived_s: `time.monotonic()` when it came; None for now.
        """
        key = None
        if named_keys:
            row, key = _without_key(row, head)
        asked: GenerateRequest | Probe | RequestError
        try:
            if on_duty:
                asked = read_request(row, head, arrived_s=arrived_s)
            else:
                asked = Probe(by_name=True, refused=off_duty()) if is_probe(row, head) else off_duty()
        except Exception as error:
            asked = error if isinstance(error, RequestError) else refusal(error)
        length = head.get("content-length", "")
        fields_bytes = sum(len(value) for value in row.values() if isinstance(value, bytes | bytearray | str))
        return cls(
            index=index,
            request_id=request_id,
            transport="http" if is_http(head) else "grpc",
            request_bytes=int(length) if length.isascii() and length.isdigit() and len(length) < 19 else fields_bytes,
            key=key,
            asked=asked,
        )

    def in_run_block(self, record: Record) -> Record:
        """The record with this item's id and transport in its run block."""
        return replace(record, run={**record.run, "request_id": self.request_id, "transport": self.transport})

    def log_line(self, result: Record | RequestError, fmt: str, *, with_prompt: bool) -> dict[str, Any]:
        """What the log says of it and of its result, the prompt only when that was asked for."""
        seen: dict[str, Any] = {"request": self.request_id, "transport": self.transport, "outcome": _outcome(result)}
        if self.key is not None:
            seen["key"] = self.key
        if isinstance(result, RequestError):
            seen["field"] = result.field
        else:
            seen |= {"format": fmt, "tokens": len(result.tokens)}
        if with_prompt and isinstance(self.asked, GenerateRequest):
            seen["prompt"] = self.asked.prompt
        return seen

    def figures(self, result: Record | RequestError, reply_bytes: int) -> Iterator[Figure]:
        """What operators measure of it."""
        tokens, run = (0, {}) if isinstance(result, RequestError) else (len(result.tokens), result.run)
        return of_request(self.transport, _outcome(result), tokens, self.request_bytes, reply_bytes, run)


def _without_key(row: Mapping[str, Any], head: Mapping[str, str]) -> tuple[Mapping[str, Any], str | None]:
    """The row without the name of its key, and the name: a header over HTTP, a field over gRPC."""
    if is_http(head):
        return row, head.get(KEY_HEADER)
    name = row.get(KEY_HEADER)
    fields = {field: value for field, value in row.items() if field != KEY_HEADER}
    return fields, bytes(name).decode("ascii", "replace") if isinstance(name, bytes | bytearray) else None


def _outcome(result: Record | RequestError) -> str:
    return result.code if isinstance(result, RequestError) else "ok"
