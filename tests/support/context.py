"""What TorchServe hands to a handler, as far as the handler uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Context:
    """The context of one batch: headers in; statuses, content types and headers out."""

    def __init__(self, headers: Sequence[dict[str, Any]]) -> None:
        self.headers = headers
        self.statuses: dict[int, tuple[int, str]] = {}
        self.sent: list[dict[str, str]] = [{} for _ in headers]

    def get_all_request_header(self, index: int) -> dict[str, Any]:
        return self.headers[index]

    def get_request_id(self, index: int) -> str:
        return f"request-{index}"

    def set_response_status(self, code: int, phrase: str, idx: int) -> None:
        self.statuses[idx] = (code, phrase)

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.sent[idx]["content-type"] = value

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        self.sent[idx][key] = value
